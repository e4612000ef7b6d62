"""Tests of zerotrust.net.name_lookup."""

import asyncio

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


async def test_a_resolver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loop:
        async def getaddrinfo(self, *_: object) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    found = await asyncio.wait_for(look_up("app.example.com", lookup_timeout=0.01), 5)
    assert found.error == "the resolver did not answer within 0.01 s"
