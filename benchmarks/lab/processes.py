"""Child processes: each in a session and with a log of its own, all ended at the end."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from zerotrust.errors import BenchError

PATIENCE: Final = 10.0
_TAIL: Final = 2
_LINE_BYTES: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1


class Child:
    """One running process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise BenchError with the last lines of the log if the process has ended."""
        if self._process.returncode is not None:
            raise BenchError(
                f"{self.name} has ended with status {self._process.returncode}: {self.last_words()}"
            )

    def last_words(self) -> str:
        """Return the last lines of the log, joined."""
        with self.log.open(errors="replace") as lines:
            return " / ".join(line.strip() for line in deque(lines, _TAIL)) or "it said nothing"

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the process and the children in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self) -> None:
        """Send SIGTERM, then SIGKILL."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.signal_group(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        self.signal_group(signal.SIGKILL)
        await self._process.wait()

    async def ask(self, line: bytes) -> bytes:
        """Write a line and read one; return an empty line if the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(line)
            await self._process.stdin.drain()
        return await self._process.stdout.readline()


class Processes:
    """All child processes; leaving the context ends them in reverse order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(child.stop() for child in reversed(self._children)))

    async def start(
        self, name: str, command: Sequence[str | Path], *, talks: bool = False
    ) -> Child:
        """Start a process with its output in a log, or in `Child.ask` if it `talks`.

        Raises:
            BenchError: the program cannot be run.
        """
        log = self.folder / f"{name.replace(' ', '-')}.log"
        with log.open("ab") as sink:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE if talks else sink,
                    stderr=sink,
                    limit=_LINE_BYTES,
                    start_new_session=True,
                    preexec_fn=_end_with_us(),
                )
            except OSError as error:
                raise BenchError(f"{command[0]} cannot be run: {error.strerror}") from error
        child = Child(name, process, log)
        self._children.append(child)
        return child

    async def stop(self, child: Child) -> None:
        """End one process now."""
        self._children.remove(child)
        await child.stop()


def python(module: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command that runs a Python module."""
    return [sys.executable, "-m", module, *arguments]


def _end_with_us() -> Callable[[], None] | None:
    """Let the kernel end the new process when this one dies."""
    if sys.platform != "linux":
        return None
    prctl: Any = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
