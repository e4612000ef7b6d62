"""Tests of zerotrust.doctor.examination."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.inprocess_stack import StackFiles
from zerotrust.doctor import examination
from zerotrust.doctor.examination import findings
from zerotrust.model.doctor import Finding
from zerotrust.model.server import ServerConfig
from zerotrust.model.status import AgentStatus

pytestmark = pytest.mark.anyio


def finding(check: str, level: str = "broken", **changes: Any) -> Finding:
    return Finding.model_validate(
        {"check": check, "level": level, "subject": "x", "what": "w", "fix": "f", **changes}
    )


def checks_of(*found: Finding) -> Any:
    async def work() -> list[Finding]:
        return list(found)

    return lambda *_: [("made up", work())]


async def examined(monkeypatch: pytest.MonkeyPatch, *found: Finding) -> list[str]:
    monkeypatch.setattr(examination, "server_checks", checks_of(*found))
    return [one.check for one in await findings(ServerConfig())]


async def test_the_worst_comes_first_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [finding("a", "warning"), finding("b"), finding("b"), finding("b", subject="y")]
    assert await examined(monkeypatch, *given) == ["b", "b", "a"]


async def test_what_another_finding_explains_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = finding("agent.not_connected")
    assert await examined(monkeypatch, lost, finding("server.port_closed")) == [
        "server.port_closed"
    ]
    assert await examined(monkeypatch, lost) == ["agent.not_connected"]


async def test_a_check_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(examination, "server_checks", lambda *_: [("ports", hang())])
    monkeypatch.setattr(examination, "CHECK_TIMEOUT", 0.05)
    (late,) = await findings(ServerConfig())
    assert str(late) == (
        "the check of ports did not end (within 0.05 s); try again; see the other findings"
    )


async def test_a_real_file_of_each_kind(tmp_path: Path) -> None:
    files = StackFiles(tmp_path)
    server = await findings(files.server(), step_timeout=1)
    assert [one.check for one in server] == ["server.not_running"]
    agent = await findings(files.agent(), status=None, step_timeout=1)
    assert [one.check for one in agent] == ["agent.not_running"]
    away = AgentStatus(agent="home", software="1", sessions=[], services=[])
    assert [one.check for one in await findings(files.agent(), status=away)] == [
        "agent.not_connected"
    ]
