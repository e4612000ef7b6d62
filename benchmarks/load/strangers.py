"""Strangers: requests at a fixed rate, each with another cookie that no server knows."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Final, cast

from benchmarks.load.clients import connect
from benchmarks.load.jobs import Job

_TICK: Final = 0.001
_MOST_UNANSWERED: Final = 64
"""Requests on one connection without an answer: a server that is slower gets no more."""


class Stranger(asyncio.Protocol):
    """One connection that sends requests without waiting for the answers.

    Attributes:
        refused: answers so far.
    """

    def __init__(self, job: Job, numbers: Iterator[int]) -> None:
        self.refused = 0
        self._sent = 0
        self._refusal = b"HTTP/1.1 %d " % job.status
        self._numbers = numbers
        self._tail = b""
        self._start = (
            f"GET {job.path} HTTP/1.1\r\nHost: {job.endpoint.host}\r\n"
            + "".join(f"{field}\r\n" for field in job.fields)
            + "Cookie: __Host-0trust="
        ).encode()

    def send(self, count: int) -> None:
        """Send some requests, unless too many have no answer."""
        count = min(count, _MOST_UNANSWERED - (self._sent - self.refused))
        if count > 0:
            self._sent += count
            self.transport.write(
                b"".join(
                    b"%b%042dA\r\n\r\n" % (self._start, next(self._numbers)) for _ in range(count)
                )
            )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        self.refused += data.count(self._refusal)
        self._tail = data[1 - len(self._refusal) :]


class Strangers:
    """All connections of a job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._connections: list[Stranger] = []

    @property
    def refused(self) -> int:
        """Answers so far."""
        return sum(connection.refused for connection in self._connections)

    async def run(self) -> None:
        """Send requests at the job's rate until cancelled."""
        job, loop, numbers = self._job, asyncio.get_running_loop(), itertools.count()
        assert job.rate is not None
        for _ in range(job.connections):
            self._connections.append(await connect(job.endpoint, lambda: Stranger(job, numbers)))
        begun, sent = loop.time(), 0
        turns = itertools.cycle(self._connections)
        while True:
            each = max(1, round(job.rate * _TICK / job.connections))
            while sent < (loop.time() - begun) * job.rate:
                next(turns).send(each)
                sent += each
            await asyncio.sleep(_TICK)
