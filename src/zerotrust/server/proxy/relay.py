"""One request on the server: between Caddy's connection and a stream of the agent's tunnel."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from zerotrust.errors import BodyTooLarge, ForwardError, LocalProtocolError, RemoteProtocolError, UpstreamFailed
from zerotrust.http.body import Kind
from zerotrust.http.error_responses import error_reply
from zerotrust.http.head_block import check_response_block, check_trailers, switches_as_asked
from zerotrust.http.websocket_frames import GOING_AWAY, POLICY_VIOLATION, SERVICE_RESTART, FrameTracker, close_frame
from zerotrust.middleware.header_edits import Edit, edit_block, edit_refusal
from zerotrust.middleware.interface import Counted
from zerotrust.middleware.request_limits import UNLIMITED
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.server.proxy.trailers import TrailerFilter
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import unpack_head
from zerotrust.tunnel.codes import FLAG_ANNOUNCE, KIND_NONE, Code
from zerotrust.tunnel.error_codes import error_for
from zerotrust.tunnel.session import Phase, Session
from zerotrust.tunnel.stream import Stream, StreamState

if TYPE_CHECKING:
    from zerotrust.server.agents.registry import ServiceRegistration
    from zerotrust.server.proxy.retry import RetryState

_log = logs.logger("relay")

RETRY_AFTER: Final = 5
MAX_KEPT_BYTES: Final = 64 * 1024
"""Of a request's body, until its answer begins, so that another agent can be given it: what forms and most calls of
interfaces have, and not more than twice what a head may have, which is kept anyway."""
_PIECE_BYTES: Final = 64
"""What keeping a piece costs besides."""

Again = Callable[["Relay", HttpServerConnection, Code, str], bool]
"""Whether a request that was reset with this code and reason, before an answer, is somebody else's now."""


class Relay:
    """Hands the request's body to the stream and the stream's answer to the connection.

    Owns neither: it lives from the request's head until the answer is complete, the client is gone, or the stream is
    reset. What the agent sends is checked before it reaches Caddy's connection, which other services share: an answer
    is framed as its client expects it, and once it is complete, nothing that the agent says reaches the connection.

    Attributes:
        body_left: bytes that the request may still bring; negative where they are not counted.
        request_edits, response_edits: what the service's handlers change in the heads; it holds for trailers too.
        trailer_filter: decides which trailer fields go on.
        claim: whose stream it is; `framing`: of the request.
        tried: what became of it before; `counted`: what has counted it. None where that is nothing.
        again: asked before the request fails; None once anything of an answer has come.
        failed: counts the answers that do not come about, by their codes; the ingress's.
    """

    __slots__ = (
        "_asked_upgrade",
        "_connection",
        "_ended",
        "_frames",
        "_given",
        "_head_only",
        "_leaving",
        "_loop",
        "_owed",
        "_room",
        "_session",
        "again",
        "body_left",
        "claim",
        "counted",
        "failed",
        "framing",
        "host",
        "request_edits",
        "request_id",
        "response_edits",
        "stream",
        "trailer_filter",
        "tried",
    )

    def __init__(
        self,
        connection: HttpServerConnection,
        session: Session,
        *,
        loop: asyncio.AbstractEventLoop,
        host: str,
        request_id: str,
        head_only: bool,
        asked_upgrade: bytes | None,
    ) -> None:
        self._connection: HttpServerConnection | None = connection
        self._session = session
        self._loop = loop
        self.host = host
        self.request_id = request_id
        self._head_only = head_only
        self._asked_upgrade = asked_upgrade
        self._owed = 0
        self._frames: FrameTracker | None = None
        self._leaving = False
        self.body_left = UNLIMITED
        self.request_edits: Sequence[Edit] = ()
        self.response_edits: Sequence[Edit] = ()
        self._given: list[bytes] | None = None
        self._room = MAX_KEPT_BYTES
        self._ended = False
        self.again: Again | None = None
        self.tried: RetryState | None = None
        self.counted: Counted | None = None
        self.claim: ServiceRegistration
        self.framing: tuple[Kind, int]
        self.stream: Stream
        self.failed: Counter[str]
        self.trailer_filter: TrailerFilter

    @property
    def over(self) -> bool:
        """The connection is no longer ours, or soon isn't."""
        return self._connection is None

    @property
    def takes_more(self) -> bool:
        """The stream still takes bytes of the request."""
        return self.stream.sending is not StreamState.DONE

    # ---- where the request may go on with another agent (server.proxy.retry)

    @property
    def lost(self) -> bool:
        """The session is over."""
        return self._session.phase is Phase.CLOSED

    @property
    def unsent(self) -> bool:
        """The session has ended before anything of the request had left."""
        return self.stream.id in self._session.unsent

    @property
    def kept(self) -> bool:
        """What was given on of the body, if anything, can be given again."""
        return self._room >= 0

    def keep_nothing(self) -> None:
        """What was given on can't be given again."""
        self._given = None
        self._room = -1

    def hand_over(self, sink: RequestSink) -> None:
        """Give what there is of the request's body to whoever owns it from now on."""
        if self._given is not None or self._ended:
            sink.body(b"".join(self._given or ()), end=self._ended)

    # ---- from the client (net.http_server.RequestSink)

    def body(self, data: bytes, *, end: bool) -> None:
        if self.body_left >= 0:
            self.body_left -= len(data)
            if self.body_left < 0:
                self._end_early(Code.CANCELLED, BodyTooLarge("the body is larger than the service takes"))
                return
        if self.again is not None and self._room >= 0:
            self._keep(data, end=end)
        if not self._session.send_data(self.stream, data, end=end) and self._connection is not None:
            self._connection.pause_reading()

    def body_trailers(self, fields: bytes) -> None:
        if not self.takes_more:
            return
        self.keep_nothing()
        fields = self.trailer_filter.apply(fields, self.request_edits, host=self.host, of="request")
        self._session.send_trailers(self.stream, fields)

    def aborted(self) -> None:
        self._connection = None
        self._session.reset(self.stream, Code.CANCELLED, "the client went away")

    def drained(self) -> None:
        owed, self._owed = self._owed, 0
        if owed:
            self._session.consumed(self.stream, owed, self._loop.time())

    def cut(self, reason: str) -> None:
        """End the request at once: it is not to be served any longer."""
        self._session.reset(self.stream, Code.NOT_ALLOWED, reason)
        self.reset(Code.NOT_ALLOWED, reason)

    def depart(self) -> None:
        """End an upgraded connection where its protocol allows it: a WebSocket at the end of the frame that passes.

        Its client is told to come back at once. A request is not touched, nor is a WebSocket that closes by itself.
        """
        connection, frames = self._connection, self._frames
        if connection is None or not connection.tunnelled or (frames is not None and frames.closed):
            return
        if frames is not None and not frames.between:
            self._leaving = True
            return
        self._session.reset(self.stream, Code.GOING_AWAY, _RESTART)
        self.reset(Code.GOING_AWAY, _RESTART)

    # ---- from the agent (tunnel.stream.StreamSink)

    def head(self, payload: bytes, *, end: bool, interim: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            kind, flags, length, block = unpack_head(payload)
            status = check_response_block(block)
            if interim:
                _check_interim(status, kind, flags, length)
                self.again = self._given = None
                connection.respond_interim(block)
            else:
                self._check_head(status, kind, block, end=end)
                self._respond(connection, block, status, kind, length, announce=bool(flags & FLAG_ANNOUNCE))
        except (RemoteProtocolError, LocalProtocolError) as error:
            self._break_off(str(error))

    def data(self, payload: bytes, *, end: bool) -> None:
        connection = self._connection
        if connection is None:
            if payload:
                self._reset_late()
            return
        frames = self._frames
        if frames is not None:
            if self._leaving:
                payload = payload[: frames.until_end(payload)]
            frames.feed(payload)
        self._answer(connection, payload, end=end)
        if self._leaving and frames is not None and frames.between:
            self.depart()
            return
        if not end:
            if connection.congested:
                self._owed += len(payload)
            else:
                self._session.consumed(self.stream, len(payload), self._loop.time())

    def trailers(self, payload: bytes) -> None:
        connection = self._connection
        if connection is None:
            self._reset_late()
            return
        if not check_trailers(payload) or connection.tunnelled:
            self._break_off("trailers that are not acceptable")
            return
        try:
            connection.respond_trailers(
                self.trailer_filter.apply(payload, self.response_edits, host=self.host, of="answer")
            )
        except LocalProtocolError as error:
            self._break_off(str(error))
            return
        self._complete()

    def reset(self, code: Code, reason: str) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self.again is not None and self.again(self, connection, code, reason):
            return
        frames = self._frames
        if code is Code.NO_ERROR and connection.tunnelled:
            connection.finish()
        elif frames is not None and code in _CLOSE_CODES and frames.between and not frames.closed:
            connection.leave(close_frame(_CLOSE_CODES[code]))
        else:
            self._fail(connection, error_for(code, reason))

    def writable(self) -> None:
        if self._connection is not None:
            self._connection.resume_reading()

    # ---- inside

    def _keep(self, data: bytes, *, end: bool) -> None:
        self._ended = end
        self._room -= len(data) + _PIECE_BYTES
        if self._room < 0:
            self._given = None
        elif self._given is None:
            self._given = [data]
        else:
            self._given.append(data)

    def _check_head(self, status: int, kind: int, block: bytes, *, end: bool) -> None:
        if status < 200 and status != 101:
            raise RemoteProtocolError("the head of the answer is not acceptable")
        if end != (kind == KIND_NONE):
            raise RemoteProtocolError(f"an answer of kind {kind} with end={end}")
        if status == 101 and not (self._asked_upgrade and switches_as_asked(block, self._asked_upgrade)):
            raise RemoteProtocolError("a switch to a protocol that was not asked for")

    def _respond(
        self, connection: HttpServerConnection, block: bytes, status: int, kind: int, length: int, *, announce: bool
    ) -> None:
        """Send the final head.

        Raises:
            LocalProtocolError: its framing does not fit the request.
        """
        self.again = self._given = None
        if self.response_edits:
            block = edit_block(block, self.response_edits)
        if status == 101 and connection.is_websocket:
            self._frames = FrameTracker()
        over = connection.respond(block, status, kind, length, announce=announce)
        if self._asked_upgrade and status != 101:
            self._session.send_data(self.stream, b"", end=True)
        if over:
            self._complete()

    def _answer(self, connection: HttpServerConnection, payload: bytes, *, end: bool) -> None:
        try:
            over = connection.respond_data(payload, end=end)
        except LocalProtocolError as error:
            self._break_off(str(error))
            return
        if over:
            self._complete()

    def _complete(self) -> None:
        """The client has the whole answer: its connection is no longer ours, and the stream is to end.

        What the client may still be sending is of no use to anyone. END usually comes with the last bytes or right
        behind them; a stream on which it does not come is reset.
        """
        self._connection = None
        if self.takes_more:
            self._end_stream()
        elif self.stream.receiving is not StreamState.DONE:
            self._loop.call_soon(self._end_stream)

    def _end_stream(self) -> None:
        self._session.reset(self.stream, Code.NO_ERROR, "the answer is complete")

    def _reset_late(self) -> None:
        """The agent goes on after the end of its answer. No client sees that; the stream ends."""
        if not self.stream.done:
            reason = "bytes behind the end of the answer"
            _log.warning("agent broke the protocol", host=self.host, request=self.request_id, reason=reason)
            self._session.reset(self.stream, Code.PROTOCOL_ERROR, reason)

    def _break_off(self, reason: str) -> None:
        self._end_early(Code.PROTOCOL_ERROR, UpstreamFailed(reason))

    def _end_early(self, code: Code, error: ForwardError) -> None:
        self._session.reset(self.stream, code, str(error))
        connection, self._connection = self._connection, None
        if connection is not None:
            self._fail(connection, error)

    def _fail(self, connection: HttpServerConnection, error: ForwardError) -> None:
        self.failed[error.code] += 1
        _log.info(
            "request failed",
            host=self.host,
            request=self.request_id,
            code=error.code,
            hop=error.hop,
            reason=str(error),
        )
        if connection.responded:
            connection.break_off()
        else:
            refuse(
                connection,
                error,
                request_id=self.request_id,
                head_only=self._head_only,
                edits=self.response_edits,
            )


def _check_interim(status: int, kind: int, flags: int, length: int) -> None:
    """Raise RemoteProtocolError for an interim head that could be taken for a final one."""
    if not 100 <= status < 200 or status == 101 or kind != KIND_NONE or flags & FLAG_ANNOUNCE or length:
        raise RemoteProtocolError(f"an interim head with status {status}, kind {kind} and length {length}")


_RESTART: Final = "a restart: come back at once"

_CLOSE_CODES: Final = {
    Code.GOING_AWAY: SERVICE_RESTART,
    Code.SUPERSEDED: SERVICE_RESTART,
    Code.SILENCE: SERVICE_RESTART,
    Code.WITHDRAWN: GOING_AWAY,
    Code.UPSTREAM_TIMEOUT: GOING_AWAY,
    Code.NOT_ALLOWED: POLICY_VIOLATION,
}
"""What a WebSocket's client is told where it is us who end it: whether to come back at once, or not."""


def refuse(
    connection: HttpServerConnection,
    error: ForwardError,
    *,
    request_id: str,
    head_only: bool,
    edits: Sequence[Edit] = (),
) -> None:
    """Answer a request that can't be forwarded; the page names the hop and the request, and nothing else of ours.

    Args:
        edits: the changes that the service makes to its responses; those that are not about content hold here too.
    """
    close = not connection.reusable()
    reply = error_reply(
        error.status,
        code=error.code,
        hop=error.hop,
        message=_SAID[error.code],
        request_id=request_id,
        close=close,
        head_only=head_only,
        retry_after=error.retry_after or (RETRY_AFTER if error.retryable and error.status == 503 else None),
    )
    connection.refuse(edit_refusal(reply, edits), close=close)


_SAID: Final = {
    "unknown_host": "No service is published under this host name.",
    "upgrade_refused": "This service does not allow connection upgrades.",
    "wrong_scheme": "This service is offered over the other of http and https only.",
    "ambiguous_path": "The path means different things to different servers; ask for it in its plain form.",
    "path_too_long": "The path is longer than this service compares.",
    "too_many_parameters": "The request has more parameters than this service looks at.",
    "client_address_unreadable": "The service asks for the client's address, and the proxy in front did not say it.",
    "body_too_large": "The request is larger than this service takes.",
    "head_too_large": "The header fields are too large, with those that this service adds.",
    "no_agent": "The agent of this service is not connected.",
    "agent_lost": "The connection to the agent was lost while the request was under way.",
    "service_gone": "The agent does not serve this service.",
    "overloaded": "A limit was reached; try again in a moment.",
    "upstreams_down": "None of the service's backends is well.",
    "upstreams_busy": "All backends of the service are busy; try again in a moment.",
    "upstream_unreachable": "The backend cannot be reached.",
    "upstream_timeout": "The backend did not answer in time.",
    "upstream_failed": "The backend broke off or gave an answer that is not acceptable.",
}
"""What a client is told: the cause with its details is in the log, under the request's id."""
