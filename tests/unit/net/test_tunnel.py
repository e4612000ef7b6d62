"""Tests of zerotrust.net.tunnel that need no other end."""

import asyncio
import resource
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zerotrust.net.flush import Flusher
from zerotrust.net.tunnel import TunnelLink
from zerotrust.tunnel.session import Options

pytestmark = pytest.mark.anyio


class Raw:
    """What is asked of a connection's socket."""

    def __init__(self, family: int, name: tuple[Any, ...]) -> None:
        self.family = family
        self._name = name

    def getsockname(self) -> tuple[Any, ...]:
        return self._name


class Connection(asyncio.Transport):
    """Has that socket, and nothing else."""

    def __init__(self, raw: Raw) -> None:
        super().__init__({"socket": raw})


def link_from(family: int, *name: Any) -> TunnelLink:
    link = TunnelLink(
        Flusher(asyncio.get_running_loop()), dialer=True, sink=cast("Any", SimpleNamespace()), options=Options()
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
async def test_whether_this_machine_still_has_the_address(family: int, name: tuple[Any, ...], lost: bool) -> None:
    assert link_from(family, *name)._has_lost_its_address() is lost


async def test_who_has_no_descriptor_left_does_not_know() -> None:
    link = link_from(socket.AF_INET, "192.0.2.77", 5)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        assert not link._has_lost_its_address()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
