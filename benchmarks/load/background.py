"""Background load until the process ends: idle WebSockets, stalled or fast readers, strangers,
dashboards."""

import asyncio
import itertools
import time
from typing import Final

from benchmarks.load.bulk import Download, flood
from benchmarks.load.clients import connect, open_all, websocket
from benchmarks.load.dashboards import OpenPage
from benchmarks.load.jobs import Job, Outcome
from benchmarks.load.loops import ClosedLoop
from benchmarks.load.sockets import EchoClient
from benchmarks.load.strangers import Strangers
from zerotrust.errors import BenchError

_STALL_AFTER: Final = 64 * 1024


class BackgroundLoad:
    """Open background connections."""

    def __init__(self) -> None:
        self._idle: list[EchoClient] = []
        self._stalled: list[Download] = []
        self._floods: list[asyncio.Task[None]] = []
        self._ends = ClosedLoop()

    async def hold(self, job: Job) -> Outcome:
        """Open idle WebSockets until there are `job.connections` of them."""
        begun, more = time.monotonic(), job.connections - len(self._idle)

        async def opened() -> EchoClient:
            client = EchoClient(self._ends, b"")
            await websocket(job.endpoint, lambda: client)
            return client

        self._idle += await open_all(more, opened)
        took = time.monotonic() - begun
        if self._ends.failure.done():
            self._ends.failure.result()
        return Outcome(rate=more / took, took=took)

    async def stall(self, job: Job) -> Outcome:
        """Start downloads and stop reading them."""
        for _ in range(job.connections):
            stalled = await connect(
                job.endpoint,
                lambda: Download(job.endpoint, job.path, job.size, stall_after=_STALL_AFTER),
            )
            self._stalled.append(stalled)
            stalled.start()
            await stalled.done
        return Outcome()

    async def flood(self, job: Job) -> Outcome:
        """Start endless downloads and let them reach full speed."""
        loop = asyncio.get_running_loop()
        for _ in range(job.connections):
            self._floods.append(loop.create_task(flood(job.endpoint, job.path, job.size)))
        done, _ = await asyncio.wait(
            self._floods, timeout=job.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for ended in done:
            ended.result()
        return Outcome(took=job.seconds)

    async def strangers(self, job: Job) -> Outcome:
        """Start requests with unknown cookies; return the rate at which they are refused."""
        strangers = Strangers(job)
        strangers.start()
        await asyncio.sleep(job.seconds)
        if strangers.failure is not None:
            raise strangers.failure
        return Outcome(rate=strangers.refused / job.seconds, took=job.seconds)

    async def dashboards(self, job: Job) -> Outcome:
        """Open pages of the dashboard; return the rate at which they fetch what has changed.

        Raises:
            BenchError: a page cannot be opened, or fetches nothing.
        """
        paths = itertools.cycle(job.paths or (job.path,))
        pages = [OpenPage(job.endpoint, next(paths), job.fields) for _ in range(job.connections)]
        loop = asyncio.get_running_loop()
        running = [loop.create_task(page.run()) for page in pages]
        done, _ = await asyncio.wait(
            running, timeout=job.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for ended in done:
            ended.result()
        if still := [page.path for page in pages if not page.fetched]:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise BenchError(f"a dashboard shows nothing new: {', '.join(still)}")
        self._floods += running
        return Outcome(rate=sum(page.fetched for page in pages) / job.seconds, took=job.seconds)
