"""A Channel is an asyncio.Protocol in all but name: transports call each of its methods."""

import asyncio
import inspect

import pytest

from zerotrust.net.channel import Channel
from zerotrust.net.http_client import BackendConnection
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.tunnel import TunnelLink

METHODS = [name for name, _ in inspect.getmembers(asyncio.Protocol, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("kind", [BackendConnection, HttpServerConnection, TunnelLink])
@pytest.mark.parametrize("name", METHODS)
def test_each_connection_has_all_methods_of_a_protocol(kind: type[Channel], name: str) -> None:
    assert callable(getattr(kind, name))
