"""Worker of the load generator: runs each kind of job."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import cycle
from typing import Final

import picows

from benchmarks.load.background import BackgroundLoad
from benchmarks.load.bulk import Download, Upload
from benchmarks.load.clients import connect, open_all, websocket
from benchmarks.load.events import EventStream
from benchmarks.load.jobs import Job, Kind, Outcome
from benchmarks.load.latency import percentiles
from benchmarks.load.loops import Client, ClosedLoop, CompletionSink, OpenLoop
from benchmarks.load.rates import as_fast_as_it_goes, at_a_rate, unless_failed
from benchmarks.load.requests import KeepAliveClient, NewConnectionClient, Requests
from benchmarks.load.sockets import EchoClient, HandshakeClient, message
from zerotrust.errors import BenchError

_PROBE_INTERVAL: Final = 0.01
_TRANSFER_TIMEOUT: Final = 300.0

AnyClient = KeepAliveClient | NewConnectionClient | EchoClient | HandshakeClient


class Worker:
    """Runs jobs, one after the other."""

    def __init__(self) -> None:
        self._background = BackgroundLoad()
        self._kinds: dict[Kind, Callable[[Job], Awaitable[Outcome]]] = {
            "get": _operations,
            "fresh": _operations,
            "echo": _operations,
            "handshake": _operations,
            "download": _download,
            "upload": _upload,
            "events": _events,
            "probe": _probe,
            "hold": self._background.hold,
            "stall": self._background.stall,
            "flood": self._background.flood,
            "strangers": self._background.strangers,
            "dashboards": self._background.dashboards,
        }

    async def do(self, job: Job) -> Outcome:
        """Run a job.

        Raises:
            BenchError: the job failed.
            OSError: a connection failed.
        """
        return await self._kinds[job.kind](job)


async def _operations(job: Job) -> Outcome:
    """Run operations in a closed loop or, if the job has a rate, in an open one."""
    if job.rate is None:
        closed = ClosedLoop()
        async with _opened(job, closed) as clients:
            outcome = await as_fast_as_it_goes(job, closed, clients)
    else:
        opened = OpenLoop()
        async with _opened(job, opened) as clients:
            outcome = await at_a_rate(job, opened, clients, job.rate)
    return outcome


@contextlib.asynccontextmanager
async def _opened(job: Job, sink: CompletionSink) -> AsyncIterator[list[AnyClient]]:
    """Connect the clients of a job."""
    requests = Requests(job, close=job.kind == "fresh")
    # Each operation is a handshake here. Verifying two signatures is a quarter of a client's cost,
    # and would take that time from the measured processes. Kept connections are verified.
    unchecked = replace(job.endpoint, root=None)
    payload = message(job.size) if job.kind == "echo" else b""
    hosts = cycle(job.hosts or (job.endpoint.host,))

    async def client() -> AnyClient:
        match job.kind:
            case "get":
                return await connect(
                    job.endpoint, lambda: KeepAliveClient(sink, requests, job.size)
                )
            case "fresh":
                return NewConnectionClient(sink, unchecked, requests, job.size)
            case "handshake":
                return HandshakeClient(sink, unchecked)
        echo = EchoClient(sink, payload)
        await websocket(replace(job.endpoint, host=next(hosts)), lambda: echo)
        return echo

    clients = await open_all(job.connections, client)
    try:
        yield clients
    finally:
        for one in clients:
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
    """Measure the lateness of events on open streams."""
    sink = ClosedLoop()
    streams = await open_all(
        job.connections,
        lambda: connect(job.endpoint, lambda: EventStream(job.endpoint, job.path, sink)),
    )
    await unless_failed(sink.failure, job.warm_up)
    for stream in streams:
        stream.taken.clear()
    await unless_failed(sink.failure, job.seconds)
    taken = [late for stream in streams for late in stream.taken]
    for stream in streams:
        stream.close()
    counted = percentiles(taken)
    return Outcome(
        rate=len(taken) / job.seconds, p50=counted.p50, p99=counted.p99, worst=counted.worst
    )


async def _probe(job: Job) -> Outcome:
    """Poll until every host answers correctly; return the time this took.

    Raises:
        BenchError: a host did not answer within `job.seconds`; with the last reason.
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
    """CompletionSink for one operation; `reason` is "" if it succeeded."""

    def __init__(self) -> None:
        self.reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def finished(self, client: Client, due: float) -> None:
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
            kept = await connect(job.endpoint, lambda: KeepAliveClient(once, requests, job.size))
            kept.start(0.0)
            await once.reason
            kept.close()
        else:
            echo = EchoClient(once, b"")
            await websocket(job.endpoint, lambda: echo)
            once.finished(echo, 0.0)
            echo.close()
    except (OSError, picows.WSHandshakeError) as error:
        return str(error) or type(error).__name__
    return await once.reason
