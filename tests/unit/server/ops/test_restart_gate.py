"""Tests of zerotrust.server.ops.restart_gate."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.agent_sessions import join
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session import AgentSession, ServiceRegistration
from zerotrust.server.ops import restart_gate
from zerotrust.server.ops.restart_gate import RestartGate

pytestmark = pytest.mark.anyio


def claimed(registry: Registry, *hosts: str, by_websocket: bool = False) -> AgentSession:
    session = join(registry, "home", SimpleNamespace(attached=True), by_websocket=by_websocket)
    registry.register(ServiceRegistration(session, "app", b"app", hosts, True))
    return session


def noted(path: Path, *hosts: str) -> None:
    registry = Registry()
    claimed(registry, *hosts)
    RestartGate(registry, path).save()


async def test_the_next_process_waits_for_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_gate, "RETURN_TIMEOUT", 60)
    noted(tmp_path / "served", "a.example.com", "b.example.com")
    registry = Registry()
    waiting = asyncio.create_task(RestartGate(registry, tmp_path / "served").wait())
    claimed(registry, "a.example.com")
    await asyncio.wait([waiting], timeout=0.2)
    assert not waiting.done()
    claimed(registry, "b.example.com")
    await asyncio.wait_for(waiting, 20)


async def test_a_wildcard_does_not_stand_for_a_name_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_gate, "RETURN_TIMEOUT", 0.1)
    noted(tmp_path / "served", "a.example.com", "*.example.com", "*")
    registry = Registry()
    wildcard = claimed(registry, "*.example.com", "*").services["app"]
    await asyncio.wait_for(RestartGate(registry, tmp_path / "served").wait(), 20)
    assert registry.lookup("a.example.com") is None, "its agent is away, and known"
    assert registry.lookup("b.example.com") is wildcard


async def test_not_for_ever_and_not_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart_gate, "RETURN_TIMEOUT", 0.1)
    noted(tmp_path / "served", "a.example.com")
    registry = Registry()
    one = RestartGate(registry, tmp_path / "served")
    await asyncio.wait_for(one.wait(), 20)
    assert list(tmp_path.iterdir()) == []
    assert registry.lookup("a.example.com") is None, "its agent is away, and known"
    assert 9 < registry.away_until("a.example.com", 10) <= 10, "requests wait for it"
    monkeypatch.setattr(restart_gate, "RETURN_TIMEOUT", 60)
    await asyncio.wait_for(one.wait(), 20)


async def test_who_comes_through_caddy_is_expected_and_not_waited_for(tmp_path: Path) -> None:
    """Caddy lets nobody in before the gate has opened."""
    former, registry = Registry(), Registry()
    claimed(former, "a.example.com", by_websocket=True)
    RestartGate(former, tmp_path / "served").save()
    await asyncio.wait_for(RestartGate(registry, tmp_path / "served").wait(), 20)
    assert registry.lookup("a.example.com") is None, "its agent is away, and known"


async def test_names_whose_agent_is_away_are_expected_and_not_waited_for(tmp_path: Path) -> None:
    former, registry = Registry(), Registry()
    former.retire(claimed(former, "a.example.com"))
    RestartGate(former, tmp_path / "served").save()
    wildcard = claimed(registry, "*.example.com").services["app"]
    await asyncio.wait_for(RestartGate(registry, tmp_path / "served").wait(), 20)
    assert registry.lookup("a.example.com") is None, "a wildcard does not stand for it"
    assert registry.lookup("b.example.com") is wildcard


@pytest.mark.parametrize(
    "said", [b"", b"[]", b'{"a": 1}', b"[1, null]", b"\xff\xfe", b'["a"', b"17"]
)
async def test_what_makes_no_sense_costs_nothing(tmp_path: Path, said: bytes) -> None:
    (tmp_path / "served").write_bytes(said)
    await asyncio.wait_for(RestartGate(Registry(), tmp_path / "served").wait(), 20)


async def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    one = RestartGate(Registry(), tmp_path / "none" / "served")
    one.save()
    await asyncio.wait_for(one.wait(), 20)
