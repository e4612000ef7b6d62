"""Tests of zerotrust.cli.agent: what the agent is given. Its own work is tested elsewhere."""

from pathlib import Path
from typing import Any

import pytest

from zerotrust.cli.main import status
from zerotrust.model.status import (
    AgentStatus,
    MemberStatus,
    ServiceStatus,
    SessionStatus,
    UpstreamStatus,
)


def test_the_agent_with_every_option_and_its_reload(
    started: list[tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("agent_id: a\n")
    options = ["--id", "b", "--server", "x:1", "--cert", "/a", "--key", "/b", "--ca", "/c"]
    assert status(["agent", "run", "-c", str(path), *options]) == 0
    assert capsys.readouterr().err == (
        f"warning: {path}:1:1: services: no services: this agent publishes nothing\n"
    )
    _, (loaded, read) = started
    config = loaded.config
    assert config.declared_id == "b"
    assert (config.server.address, config.server.cert, config.server.key) == ("x:1", "/a", "/b")
    path.write_text("services: [{hostname: a.example.com, backend: 'x:1'}]\n")
    again = read(config).config
    assert again.declared_id == "b"
    assert len(again.services) == 1


@pytest.mark.parametrize(
    ("text", "environment", "level"),
    [
        ("", "debug", "debug"),
        ("log_level: error", "debug", "error"),
        ("", "nonsense", "info"),
        ("", "", "info"),
    ],
)
def test_the_environments_level_counts_where_the_file_has_none(
    started: list[tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    environment: str,
    level: str,
) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(f"agent_id: a\n{text}\n")
    monkeypatch.setenv("LOG_LEVEL", environment)
    assert status(["agent", "run", "--config", str(path)]) == 0
    assert started[0][1].level == level


def test_a_wrong_option_is_named(
    started: list[tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("agent_id: a\n")
    assert status(["agent", "run", "--config", str(path), "--log-level", "loud"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: command line: logging.level: expected one of debug"
    )
    assert started == []


def test_an_agent_that_does_not_run_cannot_be_drained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(["agent", "drain", "--config", str(tmp_path / "agent.yaml")]) == 1
    assert (
        f"{tmp_path}/agent.sock: no agent runs with this configuration" in capsys.readouterr().err
    )


def test_draining_returns_when_the_agent_has_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path] = []

    async def request_drain(path: Path) -> None:
        asked.append(path)

    monkeypatch.setattr("zerotrust.agent.control_socket.request_drain", request_drain)
    assert status(["agent", "drain", "-c", str(tmp_path / "home.yaml")]) == 0
    assert asked == [tmp_path / "home.sock"]
    assert capsys.readouterr().out == "the agent has drained and stopped\n"


def test_status_of_an_agent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstreams = [UpstreamStatus(address="10.0.0.1:80", state="unhealthy", requests=0)]
    found = AgentStatus(
        agent="home",
        software="9",
        sessions=[SessionStatus(id="0123abcd", server="192.0.2.7:8443", streams=3)],
        services=[
            ServiceStatus(id="web", hosts=["a.example", "b.example"], upstreams=upstreams),
            ServiceStatus(id="www", hosts=["*.example"], upstreams=[], redirect_to="a.example"),
        ],
        members=[
            MemberStatus(address="two.example:8443", connected=True),
            MemberStatus(address="three.example:8443", connected=False, problem="no answer"),
        ],
    )

    async def request_status(path: Path) -> AgentStatus:
        assert path == tmp_path / "home.sock"
        return found

    monkeypatch.setattr("zerotrust.agent.control_socket.request_status", request_status)
    command = ["agent", "status", "-c", str(tmp_path / "home.yaml")]
    assert status(command) == 0
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "home: connected, version 9",
        "SESSION SERVER STREAMS",
        "0123abcd 192.0.2.7:8443 3",
        "FURTHER SERVER STATE",
        "two.example:8443 connected",
        "three.example:8443 no answer",
        "SERVICE HOSTS BACKEND STATE REQUESTS",
        "web a.example, b.example 10.0.0.1:80 unhealthy 0",
        "www *.example redirect to a.example - -",
    ]
    found = found.model_copy(
        update={"sessions": [found.sessions[0].model_copy(update={"connected": False})]}
    )
    assert status(command) == 1
    text = capsys.readouterr().out
    assert "home: not connected" in text and "192.0.2.7:8443 (lost, reconnecting)" in text
    found = found.model_copy(update={"sessions": []})
    assert status(command) == 1, "so that it serves as a health check"
    assert capsys.readouterr().out.startswith("home: not connected")
    assert status([*command, "--json"]) == 1
    assert AgentStatus.model_validate_json(capsys.readouterr().out) == found
