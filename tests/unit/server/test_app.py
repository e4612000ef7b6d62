"""Tests of zerotrust.server.app: what of a new configuration applies at once. Serving is tested with processes."""

import pytest

from zerotrust.config.diff import between
from zerotrust.errors import SetupError
from zerotrust.model.logging import Logging
from zerotrust.model.server import ServerConfig
from zerotrust.server.app import _apply
from zerotrust.telemetry import logs


def config(**data: object) -> ServerConfig:
    return ServerConfig.model_validate(data)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[Logging]:
    calls: list[Logging] = []
    monkeypatch.setattr(logs, "configure", calls.append)
    return calls


def test_the_log_changes_at_once(configured: list[Logging]) -> None:
    new = config(logging={"level": "debug"}, hot_reload={"enabled": False})
    assert _apply(new, between(config(), new)) == []
    assert configured == [new.logging]


def test_what_waits_is_named(configured: list[Logging]) -> None:
    new = config(server={"listen_addr": ":1"}, caddy={"http_port": 0})
    changes = between(config(), new, files=["server.crt"])
    assert _apply(new, changes) == [
        "server.listen_addr: for a restart",
        "caddy.http_port: for a restart",
        "server.crt: for a restart",
    ]
    assert configured == []


def test_a_log_that_cannot_be_opened_is_refused() -> None:
    new = config(logging={"output": "/dev/null/x"})
    with pytest.raises(SetupError, match="cannot open the log file"):
        _apply(new, between(config(), new))
