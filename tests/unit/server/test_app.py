"""Tests of zerotrust.server.app: what of a new configuration applies at once. Serving is tested with processes."""

from typing import cast

import pytest

from zerotrust.config.diff import Changes, between
from zerotrust.errors import PkiError, SetupError
from zerotrust.model.logging import Logging
from zerotrust.model.server import AgentListener, ServerConfig
from zerotrust.server.accept import AgentDoor
from zerotrust.server.app import _apply
from zerotrust.telemetry import logs


class Door:
    """Counts renewals; refuses them where it is told to."""

    def __init__(self, refusal: PkiError | None = None) -> None:
        self.renewed: list[AgentListener] = []
        self._refusal = refusal

    def renew(self, settings: AgentListener) -> None:
        if self._refusal is not None:
            raise self._refusal
        self.renewed.append(settings)


def applied(new: ServerConfig, changes: Changes, door: Door | None = None) -> list[str]:
    return _apply(cast("AgentDoor", door or Door()), new, changes)


def config(**data: object) -> ServerConfig:
    return ServerConfig.model_validate(data)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[Logging]:
    calls: list[Logging] = []
    monkeypatch.setattr(logs, "configure", calls.append)
    return calls


def test_the_log_changes_at_once(configured: list[Logging]) -> None:
    new = config(logging={"level": "debug"}, hot_reload={"enabled": False})
    door = Door()
    assert applied(new, between(config(), new), door) == []
    assert not door.renewed
    assert configured == [new.logging]


def test_what_waits_is_named(configured: list[Logging]) -> None:
    new = config(server={"listen_addr": ":1"}, caddy={"http_port": 0})
    assert applied(new, between(config(), new)) == [
        "server.listen_addr: for a restart",
        "caddy.http_port: for a restart",
    ]
    assert configured == []


@pytest.mark.parametrize("data", [{}, {"server": {"cert_file": "other.crt"}}])
def test_certificates_are_renewed_at_once(configured: list[Logging], data: dict[str, object]) -> None:
    new, door = config(**data), Door()
    assert applied(new, between(config(), new, files=[] if data else ["server.crt"]), door) == []
    assert door.renewed == [new.server]


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_changes(configured: list[Logging]) -> None:
    new = config(logging={"level": "debug"})
    with pytest.raises(PkiError, match="not of this key"):
        applied(new, between(config(), new, files=["server.crt"]), Door(PkiError("not of this key")))
    assert configured == []


def test_a_log_that_cannot_be_opened_is_refused() -> None:
    new = config(logging={"output": "/dev/null/x"})
    with pytest.raises(SetupError, match="cannot open the log file"):
        applied(new, between(config(), new))
