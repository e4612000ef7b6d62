"""Tests of zerotrust.net.tunnel without a peer."""

import asyncio
import resource
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.support.tunnel import REQUEST, WELCOME, Ear, Owner, message
from zerotrust.net.tunnel import TunnelLink
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.tunnel.binary import unpack_reason
from zerotrust.tunnel.codes import Code, FrameType
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

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> Ear | None:
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
