"""Tests of zerotrust.net.resolver."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.waiting import eventually
from zerotrust.net import resolver as module
from zerotrust.net.loop import run
from zerotrust.net.resolver import Resolver

HOST = "app.example.com"
FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]


class NameServer:
    """A system's resolver that answers when `answers` is set.

    Attributes:
        asked: the names of all look-ups.
    """

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked: list[str] = []
        self._real = socket.getaddrinfo

    def look_up(self, host: str, *others: Any) -> list[Any]:
        if others[-1] & socket.AI_NUMERICHOST:
            return self._real(host, *others)
        self.asked.append(host)
        assert self.answers.wait(60)
        if host != HOST:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return FOUND


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    made = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", made.look_up)
    yield made
    made.answers.set()


def test_a_component_ends_while_a_look_up_hangs(name_server: NameServer) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.get_running_loop().getaddrinfo(HOST, 80)

    run(main())
    assert name_server.asked == [HOST]


@pytest.mark.anyio
async def test_an_address_needs_no_look_up(name_server: NameServer) -> None:
    resolver = Resolver(asyncio.get_running_loop())
    found = await resolver.addresses("::1", 443, type=socket.SOCK_STREAM)
    assert [entry[4][:2] for entry in found] == [("::1", 443)]
    assert name_server.asked == []


@pytest.mark.anyio
async def test_a_name_of_this_machine() -> None:
    resolver = Resolver(asyncio.get_running_loop())
    found = await resolver.addresses("localhost", 443, type=socket.SOCK_STREAM)
    assert {entry[4][1] for entry in found} == {443}


@pytest.mark.anyio
async def test_a_name_without_an_address(name_server: NameServer) -> None:
    name_server.answers.set()
    resolver = Resolver(asyncio.get_running_loop())
    with pytest.raises(socket.gaierror, match="no such name"):
        await resolver.addresses("other.example.com", 80)
    with pytest.raises(UnicodeError):
        await resolver.addresses("a" * 300, 80)


@pytest.mark.anyio
async def test_a_look_up_is_shared_for_a_second(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(asyncio.get_running_loop())
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(resolver.addresses(HOST, 80)) for _ in range(3)]
        await eventually(lambda: name_server.asked, "it is asked")
        first[0].cancel()
        monkeypatch.setattr(module, "SHARED", 0.0)
        first.append(group.create_task(resolver.addresses(HOST, 80)))
        await eventually(lambda: len(name_server.asked) == 2, "it is asked again")
        monkeypatch.setattr(module, "MOST", 2)
        first.append(group.create_task(resolver.addresses(HOST, 80)))
        await asyncio.sleep(0)
        name_server.answers.set()
    assert first[0].cancelled()
    assert [await one for one in first[1:]] == [FOUND] * 4
    assert name_server.asked == [HOST] * 2


@pytest.mark.anyio
async def test_without_a_thread_a_look_up_fails(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    with pytest.raises(OSError, match="no thread"):
        await Resolver(asyncio.get_running_loop()).addresses(HOST, 80)
