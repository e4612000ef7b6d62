"""Relay: carries a request and its answer between Caddy's connection and a tunnel stream."""

import asyncio
from time import time
from typing import Final, Protocol

from zerotrust.access.cookies import without_own_set_cookie
from zerotrust.access.subject import Credential
from zerotrust.errors import (
    BodyTooLarge,
    ForwardError,
    LocalProtocolError,
    RemoteProtocolError,
    UpstreamFailed,
)
from zerotrust.http.body import Kind
from zerotrust.http.head_block import check_response_block, check_trailers, switches_as_asked
from zerotrust.middleware.header_edits import edit_block
from zerotrust.middleware.request_limits import UNLIMITED
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.server.proxy.request_context import RequestContext
from zerotrust.server.proxy.trailers import TrailerFilter
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import unpack_head
from zerotrust.tunnel.codes import FLAG_ANNOUNCE, KIND_NONE, Code
from zerotrust.tunnel.error_codes import error_for
from zerotrust.tunnel.session import Phase, Session
from zerotrust.tunnel.stream import Stream, StreamState

_log = logs.logger("relay")

MAX_REPLAY_BYTES: Final = 64 * 1024
"""Bytes of a request's body that are kept until its answer begins, so that another agent can be
sent them. Forms and most API calls have fewer."""
_PIECE_BYTES: Final = 64
"""Memory that each kept piece of a body takes besides its bytes."""


RESTART: Final = "the server or the agent is going away"


class RelayOwner(Protocol):
    """Decides what becomes of a request whose relay has failed (the ingress)."""

    def relay_failed(self, relay: "Relay", error: ForwardError, code: Code) -> None:
        """Retry or answer a request whose stream has ended with `code`. The relay's last call."""

    def access_ended(self, context: RequestContext) -> None:
        """Refuse a request without an answer that its client may not go on with."""

    def upgraded(self, relay: "Relay") -> None:
        """Note that a connection has become a byte relay."""


class Relay:
    """Sends the request's body to the stream, and the stream's answer to the connection.

    It owns neither. It lives until the answer is complete, the client is gone, or the stream is
    reset. Caddy's connection is shared with other services, so each frame of the agent is checked
    first: the client must be able to tell where the answer ends, and no byte behind that end
    reaches the connection.

    Args:
        payload: of the OPEN frame; the relay opens the stream.

    Attributes:
        context: the request.
        stream: the stream that it was forwarded on.
    """

    __slots__ = (
        "_body_left",
        "_connection",
        "_ended",
        "_loop",
        "_owed",
        "_owner",
        "_replay",
        "_replay_room",
        "_session",
        "_trailer_filter",
        "_user",
        "context",
        "stream",
    )

    def __init__(
        self,
        context: RequestContext,
        session: Session,
        payload: bytes,
        *,
        owner: RelayOwner,
        loop: asyncio.AbstractEventLoop,
        trailer_filter: TrailerFilter,
    ) -> None:
        self.context = context
        self._connection: HttpServerConnection | None = context.connection
        self._session = session
        self._owner = owner
        self._loop = loop
        self._trailer_filter = trailer_filter
        policy, upgrade = context.policy, context.head.fields.upgrade
        self._body_left = policy.max_body if policy is not None and upgrade is None else UNLIMITED
        self._owed = 0
        self._user: Credential | None = None
        self._replay: list[bytes] | None = None
        self._replay_room = MAX_REPLAY_BYTES
        self._ended = False
        end = context.framing[0] is Kind.NONE and upgrade is None
        self.stream: Stream = session.open_stream(payload, self, end=end, now=loop.time())

    @property
    def host(self) -> str:
        """The host name that was asked for."""
        return self.context.host

    @property
    def registered_host(self) -> str:
        """The host name or wildcard of the service that the request belongs to."""
        registration = self.context.registration
        assert registration is not None
        return registration.registered_host(self.context.host)

    @property
    def over(self) -> bool:
        """The relay no longer uses the connection."""
        return self._connection is None

    @property
    def takes_more(self) -> bool:
        """The stream still takes bytes of the request."""
        return self.stream.sending is not StreamState.DONE

    @property
    def moved(self) -> int:
        """Bytes that client and backend have sent since the upgrade."""
        return self.context.connection.received + self.context.connection.sent

    def delivers_rest(self, code: Code, *, ended: bool) -> bool:
        """Return True where bytes that came before a reset with `code` still go to the client.

        They do where the answer is complete (`ended`), or where they may be whole messages of a new
        protocol. Bytes of an agent that was revoked do not, however long they have waited.
        """
        if code is Code.NOT_ALLOWED:
            return False
        return ended or code is Code.NO_ERROR or self.context.connection.tunnelled

    # ---- for retries (server.proxy.retry)

    @property
    def session_closed(self) -> bool:
        """The session is over."""
        return self._session.phase is Phase.CLOSED

    @property
    def unsent(self) -> bool:
        """The session has ended before the OPEN frame was written."""
        return self.stream.id in self._session.unsent

    @property
    def replayable(self) -> bool:
        """No part of an answer has come, and all of the body that was sent can be sent again."""
        return self._replay_room >= 0

    def stop_replay(self) -> None:
        """Drop the kept part of the body: the request can't be sent again."""
        self._replay = None
        self._replay_room = -1

    def replay(self, sink: RequestSink) -> None:
        """Send the kept part of the request's body to its next owner."""
        if self._replay is not None or self._ended:
            sink.body(b"".join(self._replay or ()), end=self._ended)

    # ---- from the client (net.http_server.RequestSink)

    def body(self, data: bytes, *, end: bool) -> None:
        if self._body_left >= 0:
            self._body_left -= len(data)
            if self._body_left < 0:
                self._break(
                    Code.CANCELLED, BodyTooLarge("the body is larger than the service takes")
                )
                return
        if self._user is not None:
            self._user.note_use(time())
        if self._replay_room >= 0:
            self._keep(data, end=end)
        if not self._session.send_data(self.stream, data, end=end) and self._connection is not None:
            self._connection.pause_reading()

    def body_trailers(self, fields: bytes) -> None:
        if not self.takes_more:
            return
        self.stop_replay()
        edits = self.context.request_edits
        fields = self._trailer_filter.apply(fields, edits, host=self.host, of="request")
        self._session.send_trailers(self.stream, fields)

    def aborted(self) -> None:
        self._connection = None
        self._session.reset(self.stream, Code.CANCELLED, "the client went away")

    def drained(self) -> None:
        owed, self._owed = self._owed, 0
        if owed:
            self._session.consumed(self.stream, owed, self._loop.time())

    # ---- from the server (server.agents.session_control.OpenRequest)

    def cut(self, reason: str) -> None:
        """End the request at once: the agent may no longer serve it."""
        self._session.reset(self.stream, Code.NOT_ALLOWED, reason)
        self.context.fail("not_allowed", "server")
        self.reset(Code.NOT_ALLOWED, reason)

    def withdraw(self, reason: str) -> None:
        """End the request at once: its client may not go on with it.

        Args:
            reason: for the client, where its protocol has a message for that.
        """
        self.stop_replay()
        self._session.reset(self.stream, Code.CANCELLED, "the client may not go on")
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self.context.fail("access_ended", "server")
        if connection.responded:
            connection.break_off()
        else:
            self._owner.access_ended(self.context)

    def expire(self, error: str, reason: str) -> None:
        """End an upgraded connection: it has exceeded a limit.

        Args:
            error: for the access log.
            reason: for the client, where its protocol has a message for that.
        """
        self._session.reset(self.stream, Code.CANCELLED, reason)
        connection, self._connection = self._connection, None
        if connection is not None:
            self.context.fail(error, "server")
            connection.break_off()

    def depart(self, *, by_agent: bool = False) -> None:
        """End an upgraded connection, as the server or the agent restarts. Other requests go on.

        Args:
            by_agent: it is the agent.
        """
        connection = self._connection
        if connection is not None and connection.tunnelled:
            self._session.reset(self.stream, Code.GOING_AWAY, RESTART)
            self.context.fail("going_away", "agent" if by_agent else "server")
            self.reset(Code.GOING_AWAY, RESTART)

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
                self.stop_replay()
                if self.context.shown is not None:
                    block = without_own_set_cookie(block)
                connection.respond_interim(block)
            else:
                self._check_head(status, kind, block, end=end)
                if self.context.record is not None:
                    self.context.note_answer(self.context.record, payload)
                self._respond(
                    connection, block, status, kind, length, announce=bool(flags & FLAG_ANNOUNCE)
                )
        except (RemoteProtocolError, LocalProtocolError) as error:
            self._break_protocol(str(error))

    def data(self, payload: bytes, *, end: bool) -> None:
        connection = self._connection
        if connection is None:
            if payload:
                self._reset_late()
            return
        self._answer(connection, payload, end=end)
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
            self._break_protocol("invalid trailers")
            return
        try:
            edits = self.context.response_edits
            connection.respond_trailers(
                self._trailer_filter.apply(payload, edits, host=self.host, of="answer")
            )
        except LocalProtocolError as error:
            self._break_protocol(str(error))
            return
        self._complete()

    def reset(self, code: Code, reason: str) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if code is Code.NO_ERROR and connection.tunnelled:
            connection.finish()
        else:
            self._owner.relay_failed(self, error_for(code, reason), code)

    def writable(self) -> None:
        if self._connection is not None:
            self._connection.resume_reading()

    # ---- inside

    def _keep(self, data: bytes, *, end: bool) -> None:
        self._ended = end
        self._replay_room -= len(data) + _PIECE_BYTES
        if self._replay_room < 0:
            self._replay = None
        elif self._replay is None:
            self._replay = [data]
        else:
            self._replay.append(data)

    def _check_head(self, status: int, kind: int, block: bytes, *, end: bool) -> None:
        if status < 200 and status != 101:
            raise RemoteProtocolError(f"a final head with status {status}")
        if end != (kind == KIND_NONE):
            raise RemoteProtocolError(f"an answer of kind {kind} with end={end}")
        if status == 101:
            upgrade = self.context.head.fields.upgrade
            if not (upgrade and switches_as_asked(block, upgrade)):
                raise RemoteProtocolError("a switch to a protocol that was not asked for")

    def _respond(
        self,
        connection: HttpServerConnection,
        block: bytes,
        status: int,
        kind: int,
        length: int,
        *,
        announce: bool,
    ) -> None:
        """Send the final head.

        Raises:
            LocalProtocolError: its framing does not fit the request.
        """
        self.stop_replay()
        context = self.context
        edits = context.response_edits
        if edits:
            block = edit_block(block, edits)
        if context.shown is not None:
            block = without_own_set_cookie(block)
        if status == 101:
            self._user = context.who
        over = connection.respond(block, status, kind, length, announce=announce)
        if status == 101:
            self._owner.upgraded(self)
        elif context.head.fields.upgrade:
            self._session.send_data(self.stream, b"", end=True)
        if over:
            self._complete()

    def _answer(self, connection: HttpServerConnection, payload: bytes, *, end: bool) -> None:
        try:
            over = connection.respond_data(payload, end=end)
        except LocalProtocolError as error:
            self._break_protocol(str(error))
            return
        if over:
            self._complete()

    def _complete(self) -> None:
        """Let go of the connection: the client has the whole answer. End the stream, too.

        The agent's END usually comes with the last bytes or right behind them; a stream without it
        is reset. The rest of the request, which the client may still be sending, is not forwarded.
        """
        self._connection = None
        if self.takes_more:
            self._end_stream()
        elif self.stream.receiving is not StreamState.DONE:
            self._loop.call_soon(self._end_stream)

    def _end_stream(self) -> None:
        self._session.reset(self.stream, Code.NO_ERROR, "the answer is complete")

    def _reset_late(self) -> None:
        """Reset the stream of an agent that sends bytes behind the end of its answer."""
        if not self.stream.done:
            reason = "bytes behind the end of the answer"
            _log.warning(
                "agent broke the protocol", host=self.host, request=self.context.id, reason=reason
            )
            self._session.reset(self.stream, Code.PROTOCOL_ERROR, reason)

    def _break_protocol(self, reason: str) -> None:
        self._break(Code.PROTOCOL_ERROR, UpstreamFailed(reason))

    def _break(self, code: Code, error: ForwardError) -> None:
        """Reset the stream and let the request fail, without a retry."""
        self.stop_replay()
        self._session.reset(self.stream, code, str(error))
        connection, self._connection = self._connection, None
        if connection is not None:
            self._owner.relay_failed(self, error, code)


def _check_interim(status: int, kind: int, flags: int, length: int) -> None:
    """Raise RemoteProtocolError for an interim head that a client could take for a final one."""
    if (
        not 100 <= status < 200
        or status == 101
        or kind != KIND_NONE
        or flags & FLAG_ANNOUNCE
        or length
    ):
        raise RemoteProtocolError(
            f"an interim head with status {status}, kind {kind} and length {length}"
        )
