"""A load generator's process, from the side of who asks it."""

import asyncio
import json
from typing import Final

from benchmarks.lab.processes import Child, Processes, python
from benchmarks.load.jobs import Job, Outcome
from zerotrust.errors import BenchError

JOB_TIMEOUT: Final = 330.0
"""For connecting and for a whole transfer; what a job's own seconds are comes on top."""


class Generator:
    """One process; it does one job at a time, and what it holds open stays open until it is
    stopped."""

    def __init__(self, name: str, processes: Processes) -> None:
        self._name = name
        self._processes = processes
        self._child: Child

    async def start(self) -> None:
        """Start the process."""
        self._child = await self._processes.start(self._name, python("benchmarks.load"), talks=True)

    async def stop(self) -> None:
        """End it, and with it everything that it holds open."""
        await self._processes.stop(self._child)

    async def run(self, job: Job, what: str) -> Outcome:
        """Have a job done.

        Args:
            what: what is measured, for the error.

        Raises:
            BenchError: it could not be done.
        """
        try:
            async with asyncio.timeout(job.seconds + job.warm_up + JOB_TIMEOUT):
                line = await self._child.ask(job.encode())
        except TimeoutError:
            raise BenchError(f"{what}: the load generator does not answer") from None
        if not line:
            raise BenchError(f"{what}: the load generator ended: {self._child.last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{what}: {answer['error']}")
        return Outcome(**answer)
