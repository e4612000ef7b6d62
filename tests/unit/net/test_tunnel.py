"""Tests of zerotrust.net.tunnel without a peer."""

import asyncio
import resource
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.support.transport import FakeTransport
from tests.support.tunnel import REQUEST, SECRET, WELCOME, Owner, RecordingSink, message
from zerotrust.net.tunnel import TunnelLink
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.tunnel.binary import unpack_reason
from zerotrust.tunnel.codes import ALPN, RESUME, Code, FrameType
from zerotrust.tunnel.frames import FrameReader, encode
from zerotrust.tunnel.session import Phase, SessionOptions
from zerotrust.tunnel.stream import Stream

pytestmark = pytest.mark.anyio


class Raw:
    """The part of a socket that TunnelLink uses."""

    def __init__(self, family: int, name: tuple[Any, ...]) -> None:
        self.family = family
        self._name = name

    def getsockname(self) -> tuple[Any, ...]:
        return self._name


class Connection(asyncio.Transport):
    """A transport with this socket."""

    def __init__(self, raw: Raw) -> None:
        super().__init__({"socket": raw})


def link_from(family: int, *name: Any) -> TunnelLink:
    link = TunnelLink(
        WriteCoalescer(asyncio.get_running_loop()),
        dialer=True,
        sink=cast("Any", SimpleNamespace()),
        options=SessionOptions(),
    )
    link.transport = Connection(Raw(family, name))
    return link


@pytest.mark.parametrize(
    ("family", "name", "lost"),
    [
        (socket.AF_INET, ("127.0.0.1", 5), False),
        (socket.AF_INET, ("192.0.2.77", 5), True),
        (socket.AF_INET6, ("2001:db8::77", 5, 0, 0), True),
        (socket.AF_UNIX, ("/x", ""), False),
    ],
)
async def test_a_lost_local_address_is_detected(
    family: int, name: tuple[Any, ...], lost: bool
) -> None:
    assert link_from(family, *name).has_lost_its_address() is lost


async def test_a_lack_of_descriptors_is_no_lost_address() -> None:
    link = link_from(socket.AF_INET, "192.0.2.77", 5)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        assert not link.has_lost_its_address()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Faulty(Owner):
    """A SessionSink that raises for each stream that the peer opens."""

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> RecordingSink | None:
        raise KeyError("of ours")


async def test_exception_of_a_sink_is_logged_and_does_not_end_the_link() -> None:
    link = TunnelLink(
        WriteCoalescer(asyncio.get_running_loop()),
        dialer=True,
        sink=Faulty(dialer=True),
        options=SessionOptions(),
    )
    link.data_received(message(FrameType.WELCOME, WELCOME))
    link.session.data_to_send(1 << 20)
    with capture_logs() as logs:
        for stream in (2, 4):
            link.data_received(encode(FrameType.OPEN, 0, stream, REQUEST))
    assert link.session.phase is Phase.OPEN and not link.session.streams
    sent = FrameReader().feed(link.session.data_to_send(1 << 20))
    resets = [frame for frame in sent if frame[0] == FrameType.RESET]
    assert [(stream, unpack_reason(payload)) for _, _, stream, payload in resets] == [
        (stream, (Code.INTERNAL, "internal error")) for stream in (2, 4)
    ]
    assert [(entry["log_level"], entry["error"], entry["exc_info"] is None) for entry in logs] == [
        ("error", "KeyError('of ours')", False),
        ("error", "KeyError('of ours')", True),
    ]


class Tls:
    """The part of a TLS object that TunnelLink uses."""

    def __init__(self, alpn: str | None = ALPN, certificate: bytes = b"certificate") -> None:
        self._alpn = alpn
        self._certificate = certificate

    def selected_alpn_protocol(self) -> str | None:
        return self._alpn

    def getpeercert(self, binary: bool) -> bytes:
        return self._certificate


RESUMABLE = WELCOME.model_copy(
    update={"capabilities": [RESUME], "secret": SECRET, "resume_timeout": 30.0}
)


class TlsTransport(FakeTransport):
    """A FakeTransport with TLS; it records the protocol that gets its later events."""

    def __init__(self, protocol: asyncio.Protocol, tls: Tls) -> None:
        self._tls_object = tls
        self.protocol: object = None
        super().__init__(protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"ssl_object": self._tls_object}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


def connected(tls: Tls | None = None) -> tuple[TunnelLink, TlsTransport, Owner]:
    """Return a link of an agent over a fake connection."""
    owner = Owner(dialer=True)
    link = TunnelLink(
        WriteCoalescer(asyncio.get_running_loop()),
        dialer=True,
        sink=owner,
        options=SessionOptions(),
    )
    return link, TlsTransport(link.as_protocol(), tls or Tls()), owner


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        (Tls(alpn=None), "the peer does not speak"),
        (Tls(alpn="h2"), "the peer does not speak"),
        (Tls(certificate=b""), "the peer has no certificate"),
    ],
)
async def test_a_connection_with_other_tls_is_refused(tls: Tls, reason: str) -> None:
    link, transport, owner = connected(tls)
    assert transport.is_aborted
    assert owner.over is not None and reason in owner.over[1]
    assert await transport.written() == b""
    await link.closed


async def test_closing_a_session_sends_close_and_ends_the_link() -> None:
    link, transport, _ = connected()
    assert link.peer_certificate == b"certificate"
    await transport.written()
    link.close_session(Code.GOING_AWAY, "restart")
    (frame,) = FrameReader().feed(transport.output)
    assert frame[0] == FrameType.CLOSE
    assert transport.is_closing() and not transport.is_aborted
    await link.closed


async def test_a_congested_link_is_aborted_instead_of_closed() -> None:
    link, transport, _ = connected()
    await transport.written()
    link.pause_writing()
    link.close_session(Code.GOING_AWAY)
    assert transport.is_aborted
    assert await transport.written() == b""
    await link.closed


async def test_a_link_without_connection_is_closed_at_once() -> None:
    link = TunnelLink(
        WriteCoalescer(asyncio.get_running_loop()),
        dialer=True,
        sink=Owner(dialer=True),
        options=SessionOptions(),
    )
    link.flush()
    link.close_session(Code.GOING_AWAY)
    assert link.closed.done()


async def test_a_paused_link_stays_paused_on_the_next_connection() -> None:
    link, first, _ = connected()
    link.data_received(message(FrameType.WELCOME, RESUMABLE))
    link.pause_reading()
    assert not first.is_reading()
    link.connection_lost(ConnectionResetError())
    second = TlsTransport(asyncio.Protocol(), Tls())
    link.redial(second)
    assert second.protocol is link
    assert not second.is_reading()
    link.resume_reading()
    assert second.is_reading()
    link.close_session(Code.GOING_AWAY)


async def test_a_link_writes_on_when_the_connection_takes_bytes_again() -> None:
    link, transport, _ = connected()
    await transport.written()
    link.pause_writing()
    link.data_received(message(FrameType.WELCOME, WELCOME))
    link.data_received(encode(FrameType.PING, 0, 0, b"12345678"))
    assert await transport.written() == b""
    link.resume_writing()
    sent = [frame[0] for frame in FrameReader().feed(transport.output)]
    assert FrameType.PONG in sent
    link.close_session(Code.GOING_AWAY)
