"""Our own processes: each in a session and with a log of its own, and all of them gone at the
end."""

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
        """Its id."""
        return self._process.pid

    def check(self) -> None:
        """Raises BenchError, with the process's last words, if it has ended."""
        if self._process.returncode is not None:
            raise BenchError(
                f"{self.name} has ended with status {self._process.returncode}: {self.last_words()}"
            )

    def last_words(self) -> str:
        """The last lines of its log, as one."""
        with self.log.open(errors="replace") as lines:
            return " / ".join(line.strip() for line in deque(lines, _TAIL)) or "it said nothing"

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the process and those of its children that stayed in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self) -> None:
        """End it, politely and then not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.signal_group(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        self.signal_group(signal.SIGKILL)
        await self._process.wait()

    async def ask(self, line: bytes) -> bytes:
        """Write a line to it and read one; empty where it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(line)
            await self._process.stdin.drain()
        return await self._process.stdout.readline()


class Processes:
    """Owns the processes; leaving the context ends them, the last started first."""

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
        """Start a process. What it says goes to its log; if it `talks`, its standard output comes
        to `Child.ask`.

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
        """End one of them now."""
        self._children.remove(child)
        await child.stop()


def python(module: str, *arguments: str | Path) -> list[str | Path]:
    """The command that runs a module of ours."""
    return [sys.executable, "-m", module, *arguments]


def _end_with_us() -> Callable[[], None] | None:
    """Have the kernel end the new process when we die without a word."""
    if sys.platform != "linux":
        return None
    prctl: Any = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
