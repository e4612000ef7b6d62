"""JSON API over HTTP/1.1: a coroutine answers each call. Used beside the data path only."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from zerotrust.errors import ZeroTrustError
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.net.tasks import Tasks
from zerotrust.telemetry import logs

MAX_BODY: Final = 64 * 1024
BODY_TIMEOUT: Final = 10.0
JSON: Final = "application/json"

_log = logs.logger("api")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of the API.

    Attributes:
        peer: the client's IP address; empty over a unix socket.
        uid: the client's user id over a unix socket; None if the system does not provide it.
        caller: name of a client that has been authenticated already; empty for others.
        query: the parameters of the query string.
        body: the JSON object of the request; empty if there was none.
    """

    peer: str = ""
    uid: int | None = None
    caller: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer to a call: `body` is sent as JSON, or as it is if it is bytes."""

    body: object = None
    status: int = 200
    media_type: str = JSON


class CallError(ZeroTrustError):
    """An invalid call; `reply` is the status code of the answer."""

    code = "bad_call"

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reply = status


Endpoint = Callable[[Call], Awaitable[Reply]]


class JsonApi:
    """Answers calls (net.http_server.RequestHandler): one endpoint for each method and path.

    A ZeroTrustError is answered with its message and code, `{"error": MESSAGE, "code": CODE}`. Any
    other error is a fault: the answer has no details of it, the log has.

    Args:
        one_call: close each connection after one call.
    """

    def __init__(
        self, endpoints: Mapping[tuple[str, str], Endpoint], tasks: Tasks, *, one_call: bool = False
    ) -> None:
        self._endpoints = endpoints
        self._tasks = tasks
        self.one_call = one_call

    def request(
        self,
        connection: HttpServerConnection,
        head: RequestHead,
        framing: tuple[Kind, int],
        *,
        caller: str = "",
    ) -> RequestSink | None:
        """Answer a call.

        Args:
            caller: name of the client, if it has been authenticated already.
        """
        # Not by urllib's urlsplit, to which "//[" is a broken address: a target begins with its
        # path.
        path, _, query = head.target.decode("latin-1").partition("?")
        method = head.method.decode("ascii")
        endpoint = self._endpoints.get((method, path))
        if endpoint is None:
            known = any(path == other for _, other in self._endpoints)
            _respond(
                connection,
                _error(CallError(f"no {method} {path} here", 405 if known else 404)),
                close=True,
            )
            return None
        call = _PendingCall(self, connection, endpoint, dict(parse_qsl(query)), caller)
        if framing[0] is Kind.NONE:
            call.start()
        return call

    def spawn(self, call: "_PendingCall") -> None:
        """Answer a call whose body is complete."""
        self._tasks.spawn(call.answer(), "api call")


class _PendingCall:
    """One call from its head to its answer (net.http_server.RequestSink)."""

    __slots__ = ("_api", "_body", "_caller", "_connection", "_endpoint", "_query", "_timer")

    def __init__(
        self,
        api: JsonApi,
        connection: HttpServerConnection,
        endpoint: Endpoint,
        query: dict[str, str],
        caller: str,
    ) -> None:
        self._api = api
        self._connection: HttpServerConnection | None = connection
        self._endpoint = endpoint
        self._query = query
        self._caller = caller
        self._body = b""
        reason = f"no complete body within {BODY_TIMEOUT:g} s"
        self._timer = asyncio.get_running_loop().call_later(BODY_TIMEOUT, self._refuse, reason, 408)

    def start(self) -> None:
        """Answer the call: its body is complete."""
        self._timer.cancel()
        self._api.spawn(self)

    def body(self, data: bytes, *, end: bool) -> None:
        if self._connection is None:
            return
        self._body += data
        if len(self._body) > MAX_BODY:
            self._refuse(f"the body is larger than {MAX_BODY} bytes", 413)
        elif end:
            self.start()

    def body_trailers(self, fields: bytes) -> None:
        self.body(b"", end=True)

    def aborted(self) -> None:
        self._timer.cancel()
        self._connection = None

    def drained(self) -> None:
        """Do nothing: answers are small."""

    async def answer(self) -> None:
        """Call the endpoint and answer.

        If the client disconnects, the endpoint still runs to its end.
        """
        connection = self._connection
        if connection is None:
            return
        try:
            call = Call(
                peer=connection.peer_host or "",
                uid=None if self._caller else connection.peer_uid(),
                caller=self._caller,
                query=self._query,
                body=_object(self._body),
            )
            reply = await self._endpoint(call)
        except ZeroTrustError as error:
            reply = _error(error)
        except Exception:  # noqa: BLE001 - every fault gets an answer
            _log.error("unhandled error in API handler", exc_info=True)
            reply = Reply(
                {"error": "internal error; see the server's log", "code": "internal"}, 500
            )
        if self._connection is not None:
            _respond(
                self._connection, reply, close=self._api.one_call or not self._connection.reusable()
            )

    def _refuse(self, reason: str, status: int) -> None:
        connection, self._connection = self._connection, None
        self._timer.cancel()
        if connection is not None:
            _respond(connection, _error(CallError(reason, status)), close=True)


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise CallError("the body is not JSON") from None
    if not isinstance(value, dict):
        raise CallError("the body is not a JSON object")
    return value


def _error(error: ZeroTrustError) -> Reply:
    status = (
        error.reply
        if isinstance(error, CallError)
        else error.status
        if error.status != 500
        else 400
    )
    return Reply({"error": str(error), "code": error.code}, status)


def _respond(connection: HttpServerConnection, reply: Reply, *, close: bool) -> None:
    body = (
        reply.body
        if isinstance(reply.body, bytes)
        else json.dumps(reply.body, separators=(",", ":")).encode()
    )
    head = (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\nContent-Type:"
        f" {reply.media_type}\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\nDate:"
        f" {formatdate(usegmt=True)}\r\n"
    )
    if close:
        head += "Connection: close\r\n"
    connection.reply(f"{head}\r\n".encode() + body, close=close)
