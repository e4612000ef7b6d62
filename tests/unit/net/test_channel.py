"""A Channel is an asyncio.Protocol in all but name: transports call each of its methods."""

import asyncio
import errno
import inspect

import pytest

from tests.kits.transport import FakeTransport
from zerotrust.net.channel import Channel
from zerotrust.net.flush import Flusher
from zerotrust.net.http_client import BackendConnection
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.tunnel import TunnelLink

METHODS = [name for name, _ in inspect.getmembers(asyncio.Protocol, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("kind", [BackendConnection, HttpServerConnection, TunnelLink])
@pytest.mark.parametrize("name", METHODS)
def test_each_connection_has_all_methods_of_a_protocol(kind: type[Channel], name: str) -> None:
    assert callable(getattr(kind, name))


async def _half_close_of_one_that_is_gone() -> tuple[bool, bool]:
    class Gone(FakeTransport):
        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    channel = Channel(Flusher(asyncio.get_running_loop()))
    transport = Gone(channel.as_protocol())
    channel.send(b"the last")
    channel.send_eof()
    return transport.is_aborted, channel.congested


def test_a_half_close_of_a_connection_that_is_gone_is_no_fault_of_who_asks_for_it() -> None:
    assert asyncio.run(_half_close_of_one_that_is_gone()) == (True, False)
