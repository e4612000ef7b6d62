"""Processes for tests: each in its own process group, with a log file and deadlines."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support import forked_product
from tests.support.forked_product import ForkedProduct
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = Path(sys.executable).with_name("0trust")


class Process:
    """One program, started by `start()` or by entering the context, ended on leaving."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.argv = [str(part) for part in argv]
        self.log = log
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._popen: subprocess.Popen[bytes] | ForkedProduct | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Start the program; append to its log."""
        assert not self.is_alive, f"{self.name} runs already"
        if self.argv[0] == str(PRODUCT):
            self._popen = self._fork(self.argv[1:])
            return
        if self.argv[:2] == [sys.executable, "-m"] and self.argv[2].startswith("tests.support."):
            self._popen = self._fork(self.argv[3:], module=self.argv[2])
            return
        with self.log.open("ab") as sink:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self._env,
                start_new_session=True,
                preexec_fn=forked_product.die_with_parent,  # noqa: PLW1509  no threads of ours hold locks here
            )

    def _fork(self, args: Sequence[str], *, module: str | None = None) -> ForkedProduct:
        return forked_product.start(
            args, out=self.log, err=self.log, env=self._env, cwd=ROOT, module=module
        )

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the program and its children."""
        self._signal_group(signal.SIGKILL)
        assert self._popen is not None
        self._popen.wait()

    async def stop(self, timeout: float = 15.0) -> int | None:
        """Send SIGTERM, then SIGKILL after `timeout`; return the exit status, None if never started.

        Whatever of its process group is left after that is killed.
        """
        if self._popen is None:
            return None
        if self.is_alive:
            self.send_signal(signal.SIGTERM)
            with contextlib.suppress(AssertionError):
                await self.wait_exit(timeout)
        self._signal_group(signal.SIGKILL)
        return self._popen.wait()

    async def wait_exit(self, timeout: float = 15.0) -> int:
        popen = self._popen
        assert popen is not None
        await eventually(lambda: popen.poll() is not None, f"{self.name} ends", timeout)
        return popen.wait()

    def text(self, since: int = 0) -> str:
        """Return the log from a byte position on."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as lines:
            lines.seek(since)
            return lines.read().decode(errors="replace")

    def position(self) -> int:
        """Return the present end of the log, for `since`."""
        return self.log.stat().st_size if self.log.exists() else 0

    async def wait_line(
        self, regex: str, *, since: int = 0, timeout: float = 20.0
    ) -> re.Match[str]:
        """Wait for a match in the log.

        Raises:
            AssertionError: it did not come in time, or the program ended.
        """
        wanted = re.compile(regex, re.MULTILINE)

        def look() -> re.Match[str] | None:
            found = wanted.search(self.text(since))
            assert found or self.is_alive, (
                f"{self.name} ended without /{regex}/:\n{self.text(since)[-3000:]}"
            )
            return found

        try:
            found = await eventually(look, f"/{regex}/ in the log of {self.name}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text(since)[-3000:]}") from None
        assert found
        return found

    def rss_bytes(self) -> int:
        """Return the resident memory in bytes."""
        return self._status_bytes("VmRSS")

    def peak_rss_bytes(self) -> int:
        """Return the highest resident memory since the start or `reset_peak_rss()`."""
        return self._status_bytes("VmHWM")

    def reset_peak_rss(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def open_files(self) -> int:
        """Return the number of its open file descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def _status_bytes(self, field: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.name} has no {field}: it ended")

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


async def wait_port(
    port: int, *, process: Process, timeout: float = 20.0, host: str = "127.0.0.1"
) -> None:
    """Wait until the port accepts connections."""

    async def try_once() -> bool:
        assert process.is_alive, f"{process.name} ended:\n{process.text()[-3000:]}"
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(try_once, f"{process.name} listens on port {port}", timeout)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{process.text()[-3000:]}") from None
