"""Each kind of job, done."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Final

import picows

from benchmarks.load.background import Held
from benchmarks.load.bulk import Download, Upload
from benchmarks.load.clients import connect, open_all, websocket
from benchmarks.load.events import EventStream
from benchmarks.load.jobs import Job, Kind, Outcome
from benchmarks.load.latency import percentiles
from benchmarks.load.loops import ClosedLoop, Ends, Lane, OpenLoop
from benchmarks.load.rates import as_fast_as_it_goes, at_a_rate, unless_failed
from benchmarks.load.requests import FreshLane, KeptLane, Requests
from benchmarks.load.sockets import EchoLane, HandshakeLane, message
from zerotrust.errors import BenchError

_PROBE_INTERVAL: Final = 0.01
_TRANSFER_TIMEOUT: Final = 300.0

AnyLane = KeptLane | FreshLane | EchoLane | HandshakeLane


class Worker:
    """Does jobs, one after the other."""

    def __init__(self) -> None:
        self._held = Held()
        self._kinds: dict[Kind, Callable[[Job], Awaitable[Outcome]]] = {
            "get": _lanes,
            "fresh": _lanes,
            "echo": _lanes,
            "handshake": _lanes,
            "download": _download,
            "upload": _upload,
            "events": _events,
            "probe": _probe,
            "hold": self._held.hold,
            "stall": self._held.stall,
            "flood": self._held.flood,
        }

    async def do(self, job: Job) -> Outcome:
        """Do one job.

        Raises:
            BenchError: it did not come to its end.
            OSError: neither did a connection.
        """
        return await self._kinds[job.kind](job)


async def _lanes(job: Job) -> Outcome:
    """Operations on lanes, in a closed loop or, where the job has a rate, in an open one."""
    if job.rate is None:
        closed = ClosedLoop()
        async with _opened(job, closed) as lanes:
            outcome = await as_fast_as_it_goes(job, closed, lanes)
    else:
        opened = OpenLoop()
        async with _opened(job, opened) as lanes:
            outcome = await at_a_rate(job, opened, lanes, job.rate)
    return outcome


@contextlib.asynccontextmanager
async def _opened(job: Job, ends: Ends) -> AsyncIterator[list[AnyLane]]:
    """The lanes of a job, connected."""
    requests = Requests(job, close=job.kind == "fresh")
    # Each operation is a handshake here, and checking two signatures is a quarter of what it costs
    # a client: time that our side of the machine would take from what is measured. Kept connections
    # are checked.
    unchecked = replace(job.endpoint, root=None)
    payload = message(job.size) if job.kind == "echo" else b""

    async def lane() -> AnyLane:
        match job.kind:
            case "get":
                return await connect(job.endpoint, lambda: KeptLane(ends, requests, job.size))
            case "fresh":
                return FreshLane(ends, unchecked, requests, job.size)
            case "handshake":
                return HandshakeLane(ends, unchecked)
        echo = EchoLane(ends, payload)
        await websocket(job.endpoint, lambda: echo)
        return echo

    lanes = await open_all(job.connections, lane)
    try:
        yield lanes
    finally:
        for one in lanes:
            one.close()


async def _download(job: Job) -> Outcome:
    download = await connect(job.endpoint, lambda: Download(job.endpoint, job.path, job.size))
    begun = time.monotonic()
    download.start()
    async with asyncio.timeout(_TRANSFER_TIMEOUT):
        await download.done
    took = time.monotonic() - begun
    download.transport.abort()
    return Outcome(rate=job.size / took, took=took)


async def _upload(job: Job) -> Outcome:
    upload = await connect(job.endpoint, lambda: Upload(job.endpoint, job.path, job.size))
    begun = time.monotonic()
    async with asyncio.timeout(_TRANSFER_TIMEOUT):
        await upload.send()
        await upload.done
    took = time.monotonic() - begun
    upload.transport.abort()
    return Outcome(rate=job.size / took, took=took)


async def _events(job: Job) -> Outcome:
    """Lateness of what comes on open streams."""
    ends = ClosedLoop()
    streams = await open_all(
        job.connections,
        lambda: connect(job.endpoint, lambda: EventStream(job.endpoint, job.path, ends)),
    )
    await unless_failed(ends.failure, job.warm_up)
    for stream in streams:
        stream.taken.clear()
    await unless_failed(ends.failure, job.seconds)
    taken = [late for stream in streams for late in stream.taken]
    for stream in streams:
        stream.close()
    counted = percentiles(taken)
    return Outcome(
        rate=len(taken) / job.seconds, p50=counted.p50, p99=counted.p99, worst=counted.worst
    )


async def _probe(job: Job) -> Outcome:
    """Ask until every host has answered as it should; how long that took.

    Raises:
        BenchError: not within `job.seconds`; with the last reason.
    """
    begun = time.monotonic()
    reason = "no answer"
    try:
        async with asyncio.timeout(job.seconds):
            for host in job.hosts or (job.endpoint.host,):
                while reason := await _why_not(job, host):  # noqa: ASYNC110 - nobody tells us
                    await asyncio.sleep(_PROBE_INTERVAL)
    except TimeoutError:
        raise BenchError(f"not ready within {job.seconds:.0f} s: {reason}") from None
    return Outcome(took=time.monotonic() - begun)


class _Once:
    """Hears how one operation ends (load.loops.Ends): `reason` is empty where it ended well."""

    def __init__(self) -> None:
        self.reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def finished(self, lane: Lane, due: float) -> None:
        self.failed("")

    def failed(self, reason: str) -> None:
        if not self.reason.done():
            self.reason.set_result(reason)


async def _why_not(job: Job, host: str) -> str:
    """Return why a request failed, or an upgrade if no body is expected; "" if it succeeded."""
    once = _Once()
    try:
        if job.size:
            requests = Requests(replace(job, hosts=(host,)))
            kept = await connect(job.endpoint, lambda: KeptLane(once, requests, job.size))
            kept.start(0.0)
            await once.reason
            kept.close()
        else:
            echo = EchoLane(once, b"")
            await websocket(job.endpoint, lambda: echo)
            once.finished(echo, 0.0)
            echo.close()
    except (OSError, picows.WSHandshakeError) as error:
        return str(error) or type(error).__name__
    return await once.reason
