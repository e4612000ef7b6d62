"""GET requests: over kept connections, and over a new one for each."""

import asyncio
import itertools
from typing import Final, cast

from benchmarks.load.clients import connect
from benchmarks.load.jobs import Endpoint, Job
from benchmarks.load.loops import Client, CompletionSink

_HEAD_END: Final = b"\r\n\r\n"
_EXPECTING_HEAD: Final = -1


class Requests:
    """Prepared requests, each with another target, so that caches give no advantage."""

    def __init__(self, job: Job, *, close: bool = False) -> None:
        self._start = f"GET {job.path}?n=".encode()
        hosts = job.hosts or (job.endpoint.host,)
        fields = "User-Agent: 0trust-bench\r\nAccept: */*\r\n" + (
            "Connection: close\r\n" if close else ""
        )
        fields += "".join(f"{field}\r\n" for field in job.fields)
        self._ends = itertools.cycle(
            [f" HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode() for host in hosts]
        )
        self._numbers = itertools.count()

    def next(self) -> bytes:
        """Return the next request."""
        return b"%b%d%b" % (self._start, next(self._numbers), next(self._ends))


class KeepAliveClient(asyncio.Protocol):
    """One connection with one request at a time.

    It knows the length of a body and counts; it parses as little as possible.
    """

    def __init__(self, loop: CompletionSink, requests: Requests, size: int) -> None:
        self._loop = loop
        self._requests = requests
        self._size = size
        self._head = b""
        self._left = _EXPECTING_HEAD
        self._due = 0.0
        self._closing = False

    def start(self, due: float) -> None:
        """Send a request."""
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


class NewConnectionClient:
    """A client that opens a connection for each request."""

    def __init__(
        self, loop: CompletionSink, endpoint: Endpoint, requests: Requests, size: int
    ) -> None:
        self._loop = loop
        self._endpoint = endpoint
        self._requests = requests
        self._size = size
        self._task: asyncio.Task[None] | None = None
        self._current: KeepAliveClient | None = None

    def start(self, due: float) -> None:
        """Connect and send a request."""
        self._task = asyncio.get_running_loop().create_task(self._ask(due))

    def close(self) -> None:
        """Cancel the request."""
        if self._task is not None:
            self._task.cancel()
        if self._current is not None:
            self._current.close()

    def finished(self, client: Client, due: float) -> None:
        """The request succeeded."""
        if self._current is client:
            self._current.close()
            self._current = None
        self._loop.finished(self, due)

    def failed(self, reason: str) -> None:
        """The request failed."""
        self._loop.failed(reason)

    async def _ask(self, due: float) -> None:
        try:
            client = await connect(
                self._endpoint, lambda: KeepAliveClient(self, self._requests, self._size)
            )
        except OSError as error:
            self._loop.failed(f"cannot connect: {error}")
            return
        self._current = client
        client.start(due)
