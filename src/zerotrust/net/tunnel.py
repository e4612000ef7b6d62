"""Link of a tunnel session: drives a `tunnel.session.Session` over one TLS connection after
another."""

import asyncio
import errno
import socket
import struct
from typing import Final

from zerotrust.model.base import join_address
from zerotrust.net.channel import Channel, describe
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import ALPN, RESUME, Code
from zerotrust.tunnel.messages import Resume
from zerotrust.tunnel.session import Phase, Session, SessionOptions, SessionSink

_log = logs.logger("tunnel")

FLUSH_BYTES: Final = 128 * 1024
"""Bytes that go to TLS at once: enough for full records, and few enough for a message to wait
behind."""
WRITE_HIGH: Final = 64 * 1024
WRITE_LOW: Final = 16 * 1024
NOTSENT_LOWAT: Final = 128 * 1024
"""Bytes that the kernel may buffer unsent. No urgent frame can overtake them there."""
UNACKNOWLEDGED: Final = 10.0
"""TCP user timeout in seconds (RFC 5482): the kernel closes a connection whose peer acknowledges
nothing for so long. Any acknowledgement restarts it, so a slow link stays open."""
SILENT: Final = 3.0
"""Seconds without an acknowledgement while bytes are sent. Then a session that can be resumed is
detached, to find another link. Checked each second, so this takes at most 4 s."""
TICK: Final = 1.0
SUSPENDED: Final = 3 * TICK
DOUBTFUL: Final = 1.0
"""Seconds without an acknowledgement while bytes are sent, after which a link is doubtful."""
PING_DOUBTFUL: Final = 2.0
"""Seconds without an answer to a PING, after which a link is doubtful."""
_TCP: Final = (socket.AF_INET, socket.AF_INET6)
_TCP_INFO: Final = struct.Struct("=24xI28xI84xI80xI")
"""Fields of `struct tcp_info` (linux/tcp.h): unacknowledged packets, milliseconds since the last
acknowledgement, unsent bytes, and the peer's window."""


class TunnelLink(Channel):
    """A session and its current connection, on which both ends have verified each other's
    certificate.

    The session begins with the first connection. If it outlives it (tunnel.session), the agent
    passes the next connection to `redial`, and the server passes it to `take_over`.

    Attributes:
        session: the session.
        closed: done when the session has closed.
        peer_certificate: the peer's verified certificate in DER form; empty until the connection is
            made.
        peer_name: the peer's address and port, for logs.
        doubtful: acknowledgements are overdue, so new streams should use another link. Checked each
            second.
    """

    __slots__ = (
        "_dialer",
        "_faulty",
        "_loop",
        "_reading",
        "_ticked_at",
        "_timer",
        "_waiting_since",
        "closed",
        "doubtful",
        "peer_certificate",
        "peer_name",
        "session",
    )

    def __init__(
        self,
        coalescer: WriteCoalescer,
        *,
        dialer: bool,
        sink: SessionSink,
        options: SessionOptions,
        session_id: str = "",
        secret: str = "",
    ) -> None:
        super().__init__(coalescer)
        self._loop = asyncio.get_running_loop()
        self._dialer = dialer
        self._faulty = False
        self._reading = True
        self._waiting_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0
        self.doubtful = False
        self.peer_certificate = b""
        self.peer_name = ""
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.session = Session(
            dialer=dialer,
            sink=sink,
            wake=self._wake,
            now=self._loop.time(),
            options=options,
            session_id=session_id,
            secret=secret,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._attach(transport):
            self._tick()
            if self.session.has_output:
                self._coalescer.mark(self)

    @property
    def by_websocket(self) -> bool:
        """The current connection is in a WebSocket."""
        transport = self.transport
        return transport is not None and bool(transport.get_extra_info("websocket"))

    def redial(self, transport: asyncio.Transport) -> None:
        """Ask the server to resume the session over a new connection (agents)."""
        self._drop()
        transport.set_protocol(self.as_protocol())
        if self._attach(transport):
            self.session.redial(self._loop.time())

    def take_over(self, other: "TunnelLink", wanted: Resume) -> None:
        """Resume the session over the connection of `other`, on which the agent asked for it
        (servers)."""
        transport = other.transport
        assert transport is not None
        other.transport = None
        other.session.supersede()
        other._over()
        now = self._loop.time()
        # The old connection is dropped without an event, because the session continues.
        self._drop()
        transport.set_protocol(self.as_protocol())
        if self._attach(transport):
            self.session.reattach(wanted, now)

    def _drop(self) -> None:
        """Abort the connection, if there is one, without an event."""
        if self.transport is not None:
            self.transport.set_protocol(asyncio.Protocol())
            self.transport.abort()
            self.transport = None

    def _attach(self, transport: asyncio.BaseTransport) -> bool:
        """Take a connection; return False and refuse it if its TLS does not fit."""
        super().connection_made(transport)
        assert self.transport is not None
        self._closing = self.congested = False
        self._waiting_since = 0.0
        if not self._reading:
            self.transport.pause_reading()
        self.transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        host, port, *_ = self.peer() or ("-", 0)
        self.peer_name = join_address(host, port)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in _TCP:
            _set_up(raw)
        tls = transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != ALPN:
            self._refuse(f"the peer does not speak {ALPN}")
            return False
        certificate = tls.getpeercert(True)
        if not certificate:
            self._refuse("the peer has no certificate")
            return False
        self.peer_certificate = certificate
        return True

    def data_received(self, data: bytes) -> None:
        try:
            self.session.receive_data(data, self._loop.time())
        except Exception as error:  # noqa: BLE001 - a new link would only bring the same frames again
            # Log the traceback only once, because the peer may be able to repeat the error.
            traceback, self._faulty = None if self._faulty else error, True
            _log.error(
                "internal error in a stream",
                peer=self.peer_name,
                error=repr(error),
                exc_info=traceback,
            )

    def flush(self) -> None:
        if self.transport is None or self.congested:
            return
        session = self.session
        if data := session.data_to_send(FLUSH_BYTES):
            self.transport.write(data)
        if session.phase is Phase.CLOSED:
            self._closing = True
            self.transport.close()
        elif session.has_output and not self.congested:
            self._coalescer.mark(self)

    def drained(self) -> None:
        if self.session.has_output:
            self.flush()

    def pause_reading(self) -> None:
        """Pause reading, also on the next connection."""
        self._reading = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        self._reading = True
        super().resume_reading()

    def ended(self, error: Exception | None) -> None:
        self.session.lost(describe(error), self._loop.time())
        if self.session.phase is Phase.CLOSED:
            self._over()

    def _over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def close_session(self, code: Code, reason: str = "") -> None:
        """Send CLOSE and close the connection; abort it if it is congested."""
        self.session.close(code, reason)
        if self.transport is None:
            self._over()
            return
        if self.congested:
            self.abort()
        else:
            self.flush()

    def _refuse(self, reason: str) -> None:
        self.session.lost(reason, self._loop.time())
        self.abort()

    def _wake(self) -> None:
        if self.transport is not None and not self.congested:
            self._coalescer.mark(self)

    def _tick(self) -> None:
        now = self._loop.time()
        session = self.session
        if self._ticked_at and now - self._ticked_at > SUSPENDED:
            # This process was suspended. What the peer sent in that time is not read yet.
            session.keepalive.heard(now)
            self._waiting_since = 0.0
        self._ticked_at = now
        was_attached = session.attached
        silence = self._silence(now)
        self.doubtful = silence >= DOUBTFUL or session.keepalive.unanswered(now) >= PING_DOUBTFUL
        if was_attached and RESUME in session.capabilities:
            if silence >= SILENT:
                session.lost(f"nothing acknowledged for {SILENT:g} s", now)
            elif self._dialer and self.has_lost_its_address():
                session.lost("this machine no longer has the connection's address", now)
        session.tick(now)
        if session.phase is not Phase.CLOSED:
            self._timer = self._loop.call_later(TICK, self._tick)
            if was_attached and not session.attached:
                self._drop()
        elif self.transport is None:
            self._over()
        elif self.congested:
            self.abort()
        else:
            self.flush()

    def has_lost_its_address(self) -> bool:
        """Return True if this machine no longer has the local address of the connection.

        Then it has joined another network, and no packet reaches the connection. For agents only.
        """
        raw = self.transport.get_extra_info("socket") if self.transport is not None else None
        if raw is None or raw.family not in _TCP:
            return False
        host, _, *rest = raw.getsockname()
        try:
            with socket.socket(raw.family, socket.SOCK_DGRAM) as probe:
                probe.bind((host, 0, *rest))
        except OSError as error:
            # Other errors do not concern the address, such as a lack of descriptors.
            return error.errno == errno.EADDRNOTAVAIL
        return False

    def _silence(self, now: float) -> float:
        """Return the seconds for which the peer has acknowledged none of the sent bytes.

        Linux only.
        """
        raw = self.transport.get_extra_info("socket") if self.transport is not None else None
        if raw is None or raw.family not in _TCP or not hasattr(socket, "TCP_INFO"):
            return 0.0
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(info) < _TCP_INFO.size:
            return 0.0
        unacknowledged, last_heard, unsent, window = _TCP_INFO.unpack(info)
        # Unsent bytes that fit the peer's window count too: the route to the peer may be gone.
        if not unacknowledged and not (unsent and window):
            self._waiting_since = 0.0
            return 0.0
        if not self._waiting_since:
            self._waiting_since = now
        return float(min(now - self._waiting_since, last_heard / 1000))


def _set_up(raw: socket.socket) -> None:
    # Nagle's algorithm delays small frames by up to 40 ms. Not every way to connect turns it off.
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKNOWLEDGED * 1000))
