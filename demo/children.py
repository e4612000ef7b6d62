"""Child processes of the demo: each has its own process group and log file."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from pathlib import Path
from types import TracebackType

MARK = "ZEROTRUST_DEMO_FOLDER"
PATIENCE = 10.0
TAIL = 12


class DemoError(Exception):
    """The demo cannot continue; the message says why."""


class Child:
    """A running process and its log file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    def tail(self) -> str:
        """Return the last lines of the log, indented."""
        with self.log.open(errors="replace") as lines:
            return "".join(f"    {line.rstrip()}\n" for line in deque(lines, TAIL)).rstrip("\n")

    def signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class Children:
    """All processes; leaving the context terminates them, and kills them after a timeout."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    async def __aenter__(self) -> "Children":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        children = list(reversed(self._children))
        for child in children:
            child.signal_group(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                for child in children:
                    await child.process.wait()
        for child in children:
            child.signal_group(signal.SIGKILL)
            await child.process.wait()
        end_strays(f"{MARK}={self._folder}".encode())

    async def start(self, name: str, *command: str | Path) -> Child:
        """Start a process that runs until the end."""
        log = self._folder / f"{name.replace(' ', '-')}.log"
        with log.open("wb") as sink:
            process = await self._spawn(*command, sink=sink.fileno())
        child = Child(name, process, log)
        self._children.append(child)
        return child

    async def run(self, *command: str | Path) -> str:
        """Run a command, wait for its end, and return what it said.

        Raises:
            DemoError: it failed; with what it said.
        """
        process = await self._spawn(*command, sink=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        if process.returncode:
            words = " ".join(
                Path(part).name if "/" in str(part) else str(part) for part in command[:4]
            )
            raise DemoError(f"`{words}` failed: {said.decode(errors='replace').strip()}")
        return said.decode(errors="replace")

    async def first_death(self) -> None:
        """Wait until one of the processes ends.

        Raises:
            DemoError: always, with its last lines.
        """
        waits = {asyncio.create_task(child.process.wait()): child for child in self._children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        child = waits[done.pop()]
        raise DemoError(f"the {child.name} {ending(child.process.returncode)}:\n{child.tail()}")

    async def _spawn(self, *command: str | Path, sink: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, MARK: str(self._folder), "PYTHONUNBUFFERED": "1"},
        )


def ending(code: int | None) -> str:
    """Describe the end of a process."""
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}; its last lines"
    return f"ended by itself with status {code}; its last lines"


def end_strays(mark: bytes) -> None:
    """Kill processes that a killed server has left, by the mark in their environment."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                mark in (entry / "environ").read_bytes().split(b"\0")
                and int(entry.name) != os.getpid()
            ):
                os.kill(int(entry.name), signal.SIGKILL)
