"""Tests of zerotrust.net.name_lookup."""

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from zerotrust.net.name_lookup import look_up

pytestmark = pytest.mark.anyio


async def test_addresses_and_names_below_localhost() -> None:
    assert (await look_up("127.0.0.1", lookup_timeout=5)).addresses == ("127.0.0.1",)
    found = await look_up("app.localhost", lookup_timeout=5)
    assert "127.0.0.1" in found.addresses
    assert found.error == ""


@pytest.mark.parametrize("host", ["no-such-name.invalid", "a" * 300, "a..b", ""])
async def test_names_without_an_address_have_a_reason(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await look_up(host or "\udcff", lookup_timeout=5)
    assert found.addresses == ()
    assert found.error


def test_a_resolver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def hang(*arguments: Any) -> list[Any]:
        if arguments[-1] & socket.AI_NUMERICHOST:
            raise socket.gaierror
        answers.wait(40)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began_at = time.monotonic()
    found = asyncio.run(look_up("app.example.com", lookup_timeout=0.01))
    assert time.monotonic() - began_at < 30, "the command does not wait for the resolver"
    answers.set()
    assert found.error == "the resolver did not answer within 0.01 s"
