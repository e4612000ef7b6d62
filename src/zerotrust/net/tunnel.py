"""The tunnel's link: drives one `tunnel.Session` over one TLS connection, and over the next where that one breaks."""

import asyncio
import errno
import socket
import struct
from typing import Final

from zerotrust.net.channel import Channel, describe
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import ALPN, RESUME, Code
from zerotrust.tunnel.messages import Resume
from zerotrust.tunnel.session import Phase, Session, SessionOptions, SessionSink

_log = logs.logger("tunnel")

FLUSH_BYTES: Final = 128 * 1024
"""How much goes to TLS at a time: enough for full records, little enough for a message to wait behind."""
WRITE_HIGH: Final = 64 * 1024
WRITE_LOW: Final = 16 * 1024
NOTSENT_LOWAT: Final = 128 * 1024
"""What the kernel may hold unsent: nothing can overtake it there."""
UNACKNOWLEDGED: Final = 10.0
"""Seconds that sent bytes may wait for a sign of the peer's TCP (RFC 5482). An acknowledgement of any of them begins
anew, so a link is slow as long as it moves at all, and dead when nothing of it arrives."""
SILENT: Final = 3.0
"""Seconds without any acknowledgement while some are due, then a session that can be resumed looks for another link.
Looked at each second, so this takes 4 at the most."""
TICK: Final = 1.0
SUSPENDED: Final = 3 * TICK
DOUBTFUL: Final = 1.0
"""Seconds without an acknowledgement that is due: time to use another link, where there is one."""
PING_DOUBTFUL: Final = 2.0
"""Seconds without an answer to a PING: the same."""
_TCP_INFO: Final = struct.Struct("=24xI28xI84xI80xI")
"""Of `struct tcp_info` (linux/tcp.h): packets that are not acknowledged, milliseconds since the last acknowledgement,
bytes that were not sent, and the peer's window."""


class TunnelLink(Channel):
    """A session and its connection, of which both ends have verified the other's certificate.

    The session begins with the first one. Where it outlives that (tunnel.session), the next one is given to `redial` by
    the agent, which made it, and to `take_over` by the server, where it came in.

    Attributes:
        closed: done when the session is over.
        peer_certificate: the other end's, DER; it has been verified. Empty until the connection is made.
        peer_name: the other end's address and port; for logs.
        doubtful: answers are overdue, so new streams are better off elsewhere. Looked at each second.
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

    def redial(self, transport: asyncio.Transport) -> None:
        """Ask for the session over a new connection, whose protocol this becomes (agents)."""
        self._drop()
        transport.set_protocol(self.as_protocol())
        if self._attach(transport):
            self.session.redial(self._loop.time())

    def take_over(self, other: "TunnelLink", wanted: Resume) -> None:
        """Go on over the connection on which the agent has asked for this session (servers)."""
        transport = other.transport
        assert transport is not None
        other.transport = None
        other.session.supersede()
        other._over()
        now = self._loop.time()
        # Its end is no news: the session goes on elsewhere.
        self._drop()
        transport.set_protocol(self.as_protocol())
        if self._attach(transport):
            self.session.reattach(wanted, now)

    def _drop(self) -> None:
        """Part from the connection, if there is one."""
        if self.transport is not None:
            self.transport.set_protocol(asyncio.Protocol())
            self.transport.abort()
            self.transport = None

    def _attach(self, transport: asyncio.BaseTransport) -> bool:
        """Take a connection; False where it is none for a session."""
        super().connection_made(transport)
        assert self.transport is not None
        self._closing = self.congested = False
        self._waiting_since = 0.0
        if not self._reading:
            self.transport.pause_reading()
        self.transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        host, port, *_ = self.peer() or ("-", "-")
        self.peer_name = f"{host}:{port}"
        raw = transport.get_extra_info("socket")
        if raw is not None:
            _set_up(raw)
        tls = transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != ALPN:
            self._refuse(f"the other end does not speak {ALPN}")
            return False
        certificate = tls.getpeercert(True)
        if not certificate:
            self._refuse("the other end has no certificate")
            return False
        self.peer_certificate = certificate
        return True

    def data_received(self, data: bytes) -> None:
        try:
            self.session.receive_data(data, self._loop.time())
        except Exception as error:  # noqa: BLE001 - without its link the session would get the same frames again
            # With its traceback only once, for the other end may be able to repeat it.
            traceback, self._faulty = None if self._faulty else error, True
            _log.error("internal error in a stream", peer=self.peer_name, error=repr(error), exc_info=traceback)

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
        """Whoever takes what arrives takes no more for now, also of the next connection."""
        self._reading = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """It takes more."""
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
        """Send CLOSE and end the connection; at once where the other end takes nothing."""
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
            # We were stopped, not the peer: what it sent meanwhile is still to be read.
            session.keepalive.heard(now)
            self._waiting_since = 0.0
        self._ticked_at = now
        was_attached = session.attached
        silence = self._silence(now)
        self.doubtful = silence >= DOUBTFUL or session.keepalive.unanswered(now) >= PING_DOUBTFUL
        if was_attached and RESUME in session.capabilities:
            if silence >= SILENT:
                session.lost(f"nothing acknowledged for {SILENT:g} s", now)
            elif self._dialer and self._has_lost_its_address():
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

    def _has_lost_its_address(self) -> bool:
        """Another network: no packet comes back to the address that the connection was made from.

        Asked of agents only, whose connections begin at an address of their own machine.
        """
        raw = self.transport.get_extra_info("socket") if self.transport is not None else None
        if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        host, _, *rest = raw.getsockname()
        try:
            with socket.socket(raw.family, socket.SOCK_DGRAM) as probe:
                probe.bind((host, 0, *rest))
        except OSError as error:
            # Any other one says nothing about the address: no descriptor may be left.
            return error.errno == errno.EADDRNOTAVAIL
        return False

    def _silence(self, now: float) -> float:
        """For how many seconds the peer's TCP has acknowledged nothing, although something is due. Linux only."""
        raw = self.transport.get_extra_info("socket") if self.transport is not None else None
        if raw is None or not hasattr(socket, "TCP_INFO"):
            return 0.0
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(info) < _TCP_INFO.size:
            return 0.0
        unacknowledged, last_heard, unsent, window = _TCP_INFO.unpack(info)
        # What the peer has room for and does not leave at all has lost its way out: its address is gone.
        if not unacknowledged and not (unsent and window):
            self._waiting_since = 0.0
            return 0.0
        if not self._waiting_since:
            self._waiting_since = now
        return float(min(now - self._waiting_since, last_heard / 1000))


def _set_up(raw: socket.socket) -> None:
    # Not every way to connect turns Nagle's algorithm off, which holds small frames back for 40 ms.
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKNOWLEDGED * 1000))
