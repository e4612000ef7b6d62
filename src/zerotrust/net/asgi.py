"""Bridge from HTTP connections to an ASGI application: the server's own pages.

The pages are small, and strangers request them. So the number of requests and the size of their
bodies are bounded. A body is complete before the application is called.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from traceback import extract_tb
from typing import Any, Final
from urllib.parse import unquote

from zerotrust.errors import LocalProtocolError
from zerotrust.http import grammar
from zerotrust.http.body import Kind
from zerotrust.http.error_responses import error_reply, reason_phrase
from zerotrust.http.head import RequestHead
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.net.tasks import Tasks
from zerotrust.telemetry import logs

_log = logs.logger("portal")

MAX_REQUESTS: Final = 32
"""Requests that the application answers at the same time."""
MAX_BODIES: Final = 256
"""Requests whose bodies are being received at the same time. With one more, the oldest gets 503: a
form comes at once, so strangers who send slowly keep no one out."""
MAX_BODY: Final = 64 * 1024
BODY_TIMEOUT: Final = 10.0
"""Seconds from the head of a request to the end of its body."""

_NAME: Final = re.compile(grammar.TOKEN)
_VALUE: Final = re.compile(grammar.TEXT)
_OF_CONNECTION: Final = (b"connection", b"keep-alive", b"transfer-encoding", b"content-length")
_WITHOUT_BODY: Final = (204, 304)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]


class AsgiBridge:
    """Hands requests to an ASGI application.

    Args:
        most: requests that the application answers at the same time; more get 503.
        max_body: longest body of a request in bytes.

    Attributes:
        running: requests that the application answers now.
    """

    def __init__(
        self, app: AsgiApp, tasks: Tasks, *, most: int = MAX_REQUESTS, max_body: int = MAX_BODY
    ) -> None:
        self.app = app
        self.max_body = max_body
        self.running = 0
        self._receiving: dict[_Exchange, None] = {}
        self._tasks = tasks
        self._most = most

    @property
    def receiving(self) -> int:
        """Number of requests whose bodies are incomplete."""
        return len(self._receiving)

    def request(
        self,
        connection: HttpServerConnection,
        head: RequestHead,
        framing: tuple[Kind, int],
        *,
        client: bytes,
        scheme: bytes,
        state: Mapping[str, Any],
    ) -> RequestSink | None:
        """Hand a request to the application.

        Args:
            client: the client's address; empty if unknown.
            state: `scope["state"]`, for the application.

        Returns:
            The request's owner from now on; None where it has been answered.
        """
        exchange = _Exchange(self, connection, _scope(head, framing, client, scheme, state))
        if framing[0] is Kind.NONE:
            exchange.start()
        elif framing[1] > self.max_body:
            exchange.refuse_body()
        else:
            exchange.await_body()
        return exchange if exchange.open else None

    def begin_body(self, exchange: "_Exchange") -> None:
        """Note that a body is being received."""
        if len(self._receiving) >= MAX_BODIES:
            next(iter(self._receiving)).give_way()
        self._receiving[exchange] = None

    def end_body(self, exchange: "_Exchange") -> None:
        """Note that a body is complete, or is not received any more."""
        del self._receiving[exchange]

    def spawn(self, exchange: "_Exchange") -> bool:
        """Run the application for a request; return False if too many run."""
        if self.running >= self._most:
            return False
        self.running += 1
        self._tasks.spawn(self._run(exchange), "page")
        return True

    async def _run(self, exchange: "_Exchange") -> None:
        try:
            await exchange.run(self.app)
        finally:
            self.running -= 1


class _Exchange:
    """One request and its answer (net.http_server.RequestSink).

    The application runs to its end even if the client goes away, so that what it has begun is
    complete. It learns of that by `http.disconnect`; what it sends then is dropped.
    """

    __slots__ = (
        "_body",
        "_bridge",
        "_connection",
        "_drained",
        "_gone",
        "_head",
        "_head_only",
        "_scope",
        "_sent_request",
        "_start",
        "_timer",
    )

    def __init__(
        self, bridge: AsgiBridge, connection: HttpServerConnection, scope: Message
    ) -> None:
        self._bridge = bridge
        self._connection: HttpServerConnection | None = connection
        self._scope = scope
        self._head_only = scope["method"] == "HEAD"
        self._body = b""
        self._timer: asyncio.TimerHandle | None = None
        self._sent_request = False
        self._start: Message | None = None
        self._gone = asyncio.Event()
        self._drained = asyncio.Event()

    @property
    def open(self) -> bool:
        """The request has no complete answer yet, and its client is there."""
        return self._connection is not None

    # ---- from the bridge

    def await_body(self) -> None:
        """Wait for the body of the request."""
        self._bridge.begin_body(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(BODY_TIMEOUT, self._body_late)

    def start(self) -> None:
        """Call the application: the request is complete."""
        if not self._bridge.spawn(self):
            self.refuse_load()

    def give_way(self) -> None:
        """Stop receiving the body: too many others come."""
        self._stop_timer()
        self.refuse_load()

    def refuse_load(self) -> None:
        """Answer that too many requests run."""
        self._refuse(503, "overloaded", "A limit was reached; try again in a moment.", retry=1)

    def refuse_body(self) -> None:
        """Answer that the body is too long."""
        self._refuse(413, "body_too_large", "The request body is too large.")

    async def run(self, app: AsgiApp) -> None:
        """Call the application."""
        try:
            await app(self._scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - every fault gets an answer
            # Without the values of variables: they may be cookies.
            places = [f"{frame.name}:{frame.lineno}" for frame in extract_tb(error.__traceback__)]
            _log.error("fault while a page was made", error=repr(error), at=places[-8:])
        if self._connection is None:
            return
        if self._connection.responded:
            self._break_off()
        else:
            message = "Internal error; the server's log has the details."
            self._refuse(500, "internal", message)

    # ---- net.http_server.RequestSink

    def body(self, data: bytes, *, end: bool) -> None:
        if self._connection is None or self._timer is None:
            return
        self._body += data
        if len(self._body) > self._bridge.max_body:
            self._stop_timer()
            self.refuse_body()
        elif end:
            self._stop_timer()
            self.start()

    def body_trailers(self, fields: bytes) -> None:
        self.body(b"", end=True)

    def aborted(self) -> None:
        self._stop_timer()
        self._leave()

    def drained(self) -> None:
        self._drained.set()

    # ---- for the application

    async def _receive(self) -> Message:
        if not self._sent_request:
            self._sent_request = True
            body, self._body = self._body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message
            return
        if kind != "http.response.body" or self._start is None:
            raise LocalProtocolError(f"unexpected ASGI message {kind!r}")
        connection = self._connection
        if connection is None:
            return
        more = bool(message.get("more_body", False))
        self._write(connection, bytes(message.get("body", b"")), end=not more)
        if self._connection is not None and connection.congested:
            self._drained.clear()
            await self._drained.wait()

    def _write(self, connection: HttpServerConnection, data: bytes, *, end: bool) -> None:
        if not connection.responded:
            assert self._start is not None
            status, headers = int(self._start["status"]), list(self._start.get("headers", ()))
            length = _length(headers, len(data) if end else None)
            announce = self._head_only and length is not None and status not in _WITHOUT_BODY
            if self._head_only or status in _WITHOUT_BODY:
                kind, size = Kind.NONE, length if announce and length is not None else 0
            else:
                kind, size = (Kind.CHUNKED, 0) if length is None else (Kind.LENGTH, length)
            if connection.respond(_block(status, headers), status, kind, size, announce=announce):
                self._leave()
                return
        if connection.respond_data(data, end=end):
            self._leave()

    # ---- inside

    def _body_late(self) -> None:
        self._stop_timer()
        self._refuse(408, "bad_request", f"No complete body within {BODY_TIMEOUT:g} s.")

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self._bridge.end_body(self)

    def _refuse(self, status: int, code: str, message: str, *, retry: int | None = None) -> None:
        connection = self._connection
        assert connection is not None
        self._leave()
        close = not connection.reusable()
        page = error_reply(
            status,
            code=code,
            hop="server",
            message=message,
            request_id="-",
            close=close,
            head_only=self._head_only,
            retry_after=retry,
        )
        connection.reply(page, close=close)

    def _break_off(self) -> None:
        connection = self._connection
        assert connection is not None
        self._leave()
        connection.break_off()

    def _leave(self) -> None:
        """Let go of the connection: the answer is complete, or the client is gone."""
        self._connection = None
        self._gone.set()
        self._drained.set()


def _scope(
    head: RequestHead,
    framing: tuple[Kind, int],
    client: bytes,
    scheme: bytes,
    state: Mapping[str, Any],
) -> Message:
    """Return the connection scope of a request (ASGI specification)."""
    path, _, query = head.target.partition(b"?")
    fields = head.fields
    headers = [(b"host", fields.host_field)]
    if framing[0] is Kind.LENGTH:
        headers.append((b"content-length", b"%d" % framing[1]))
    for line in fields.lines.splitlines():
        name, _, value = line.partition(b": ")
        headers.append((name.lower(), value))
    port = 443 if scheme == b"https" else 80
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1" if head.minor else "1.0",
        "method": head.method.decode("ascii"),
        "scheme": scheme.decode("ascii"),
        "path": unquote(path.decode("latin-1"), errors="replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": (client.decode("ascii"), 0) if client else None,
        "server": (fields.host, port),
        "state": dict(state),
    }


def _length(headers: Sequence[tuple[bytes, bytes]], known: int | None) -> int | None:
    for name, value in headers:
        if name.lower() == b"content-length":
            return int(value)
    return known


def _block(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return start line and fields of a response.

    Raises:
        LocalProtocolError: a field would break the head.
    """
    parts = [b"HTTP/1.1 %d %b\r\n" % (status, reason_phrase(status).encode())]
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise LocalProtocolError(f"invalid field {name!r} of a page")
        if name.lower() not in _OF_CONNECTION:
            parts.append(b"%b: %b\r\n" % (name, value))
    return b"".join(parts)
