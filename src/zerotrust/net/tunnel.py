"""The tunnel's link: drives one `tunnel.Session` over one TLS connection."""

import asyncio
import socket
from typing import Final

from zerotrust.net.channel import Channel, describe
from zerotrust.net.flush import Flusher
from zerotrust.tunnel.codes import ALPN, Code
from zerotrust.tunnel.events import SessionSink
from zerotrust.tunnel.session import Options, Phase, Session

FLUSH_BYTES: Final = 128 * 1024
"""How much goes to TLS at a time: enough for full records, little enough for a message to wait behind."""
WRITE_HIGH: Final = 64 * 1024
WRITE_LOW: Final = 16 * 1024
NOTSENT_LOWAT: Final = 128 * 1024
"""What the kernel may hold unsent: nothing can overtake it there."""
UNACKNOWLEDGED: Final = 10.0
"""Seconds that sent bytes may wait for a sign of the peer's TCP (RFC 5482). An acknowledgement of any of them begins
anew, so a link is slow as long as it moves at all, and dead when nothing of it arrives.

As long as a session ends with its link, a network that is back after some seconds must not cost all WebSockets."""
TICK: Final = 1.0
SUSPENDED: Final = 3 * TICK


class TunnelLink(Channel):
    """One connection and its session, which begins when TLS is done and both ends have shown their certificates.

    Attributes:
        peer_certificate: the other end's, DER; it has been verified. Empty until the connection is made.
        peer_name: the other end's address and port; for logs.
    """

    __slots__ = (
        "_dialer",
        "_loop",
        "_options",
        "_session_id",
        "_sink",
        "_ticked_at",
        "_timer",
        "closed",
        "peer_certificate",
        "peer_name",
        "session",
    )

    def __init__(
        self, flusher: Flusher, *, dialer: bool, sink: SessionSink, options: Options, session_id: str = ""
    ) -> None:
        super().__init__(flusher)
        self._loop = asyncio.get_running_loop()
        self._dialer = dialer
        self._sink = sink
        self._options = options
        self._session_id = session_id
        self._timer: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0
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
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        host, port, *_ = self.peer() or ("-", "-")
        self.peer_name = f"{host}:{port}"
        raw = transport.get_extra_info("socket")
        if raw is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
        if raw is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKNOWLEDGED * 1000))
        tls = transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != ALPN:
            self._refuse(f"the other end does not speak {ALPN}")
            return
        certificate = tls.getpeercert(True)
        if not certificate:
            self._refuse("the other end has no certificate")
            return
        self.peer_certificate = certificate
        self._tick()
        if self.session.has_output:
            self._flusher.mark(self)

    def data_received(self, data: bytes) -> None:
        self.session.receive_data(data, self._loop.time())

    def flush(self) -> None:
        if self.transport is None or self.congested:
            return
        session = self.session
        if chunks := session.data_to_send(FLUSH_BYTES):
            # One write is one TLS record for small frames: joining costs less than a record each.
            self.transport.write(b"".join(chunks))
        if session.phase is Phase.CLOSED:
            self._closing = True
            self.transport.close()
        elif session.has_output and not self.congested:
            self._flusher.mark(self)

    def drained(self) -> None:
        if self.session.has_output:
            self.flush()

    def ended(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.session.lost(describe(error))
        if not self.closed.done():
            self.closed.set_result(None)

    def close_session(self, code: Code, reason: str = "") -> None:
        """Send CLOSE and end the connection; at once where the other end takes nothing."""
        self.session.close(code, reason)
        if self.transport is None:
            return
        if self.congested:
            self.abort()
        else:
            self.flush()

    def _refuse(self, reason: str) -> None:
        self.session.lost(reason)
        self.abort()

    def _wake(self) -> None:
        if self.transport is not None and not self.congested:
            self._flusher.mark(self)

    def _tick(self) -> None:
        now = self._loop.time()
        if self._ticked_at and now - self._ticked_at > SUSPENDED:
            # We were stopped, not the peer: what it sent meanwhile is still to be read.
            self.session.keepalive.heard(now)
        self._ticked_at = now
        self.session.tick(now)
        if self.session.phase is not Phase.CLOSED:
            self._timer = self._loop.call_later(TICK, self._tick)
        elif self.congested:
            self.abort()
        else:
            self.flush()
