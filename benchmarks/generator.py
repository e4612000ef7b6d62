"""Client of a load generator process."""

import asyncio
import json
from typing import Final

from benchmarks.lab.processes import Child, Processes, python
from benchmarks.load.jobs import GIVES_WAY, Job, Outcome
from zerotrust.errors import BenchError

JOB_TIMEOUT: Final = 330.0
"""Seconds for connecting and for a whole transfer, in addition to a job's own time."""


class Generator:
    """A load generator process: one job at a time; its background load lasts until it stops.

    Args:
        gives_way: it runs only where no other process wants the processor, as if it were on another
            machine.
    """

    def __init__(self, name: str, processes: Processes, *, gives_way: bool = False) -> None:
        self._name = name
        self._processes = processes
        self._arguments = (GIVES_WAY,) if gives_way else ()
        self._child: Child

    async def start(self) -> None:
        """Start the process."""
        self._child = await self._processes.start(
            self._name, python("benchmarks.load", *self._arguments), talks=True
        )

    async def stop(self) -> None:
        """Stop the process, which closes all its connections."""
        await self._processes.stop(self._child)

    async def run(self, job: Job, what: str) -> Outcome:
        """Run a job.

        Args:
            what: name of the measurement, for the error.

        Raises:
            BenchError: the job failed.
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
