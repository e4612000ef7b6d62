"""GET requests: over connections that are kept, and over a new one for each."""

import asyncio
import itertools
from typing import Final, cast

from benchmarks.load.clients import connect
from benchmarks.load.jobs import Endpoint, Job
from benchmarks.load.loops import Ends, Lane

_HEAD_END: Final = b"\r\n\r\n"
_EXPECTING_HEAD: Final = -1


class Requests:
    """Prepared requests. No two have the same target: whoever keeps what a request came to gains
    nothing."""

    def __init__(self, job: Job, *, close: bool = False) -> None:
        self._start = f"GET {job.path}?n=".encode()
        hosts = job.hosts or (job.endpoint.host,)
        fields = "User-Agent: 0trust-bench\r\nAccept: */*\r\n" + (
            "Connection: close\r\n" if close else ""
        )
        self._ends = itertools.cycle(
            [f" HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode() for host in hosts]
        )
        self._numbers = itertools.count()

    def next(self) -> bytes:
        """The next one."""
        return b"%b%d%b" % (self._start, next(self._numbers), next(self._ends))


class KeptLane(asyncio.Protocol):
    """One connection, one request at a time.

    It knows how long a body is and counts; it parses as little as it can.
    """

    def __init__(self, loop: Ends, requests: Requests, size: int) -> None:
        self._loop = loop
        self._requests = requests
        self._size = size
        self._head = b""
        self._left = _EXPECTING_HEAD
        self._due = 0.0
        self._closing = False

    def start(self, due: float) -> None:
        """Ask."""
        self._due = due
        self._transport.write(self._requests.next())

    def close(self) -> None:
        """Close the connection."""
        self._closing = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._left == _EXPECTING_HEAD:
            data = self._head + data
            end = data.find(_HEAD_END)
            if end < 0:
                self._head = data
                return
            if not data.startswith(b"HTTP/1.1 200"):
                self._fail(data.partition(b"\r\n")[0].decode("latin-1"))
                return
            self._head = b""
            self._left = self._size - (len(data) - end - len(_HEAD_END))
        else:
            self._left -= len(data)
        if self._left == 0:
            self._left = _EXPECTING_HEAD
            self._loop.finished(self, self._due)
        elif self._left < 0:
            self._fail(f"an answer with more than its {self._size} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._fail(f"a connection that should be kept was closed ({exc or 'without a reason'})")

    def _fail(self, reason: str) -> None:
        self._closing = True
        self._loop.failed(reason)


class FreshLane:
    """A client that opens a connection for each request."""

    def __init__(self, loop: Ends, endpoint: Endpoint, requests: Requests, size: int) -> None:
        self._loop = loop
        self._endpoint = endpoint
        self._requests = requests
        self._size = size
        self._task: asyncio.Task[None] | None = None
        self._current: KeptLane | None = None

    def start(self, due: float) -> None:
        """Connect and ask."""
        self._task = asyncio.get_running_loop().create_task(self._ask(due))

    def close(self) -> None:
        """Give up."""
        if self._task is not None:
            self._task.cancel()
        if self._current is not None:
            self._current.close()

    def finished(self, lane: Lane, due: float) -> None:
        """The connection has answered."""
        if self._current is lane:
            self._current.close()
            self._current = None
        self._loop.finished(self, due)

    def failed(self, reason: str) -> None:
        """The connection has not answered."""
        self._loop.failed(reason)

    async def _ask(self, due: float) -> None:
        try:
            lane = await connect(self._endpoint, lambda: KeptLane(self, self._requests, self._size))
        except OSError as error:
            self._loop.failed(f"cannot connect: {error}")
            return
        self._current = lane
        lane.start(due)
