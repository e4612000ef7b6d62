"""Tests of zerotrust.config.unknown_keys."""

from typing import Any

import pytest

from zerotrust.config.unknown_keys import is_protection, unknown_keys
from zerotrust.model.agent import AgentConfig
from zerotrust.model.server import ServerConfig


def found(data: Any) -> list[Any]:
    return list(unknown_keys(AgentConfig, data))


def test_unknown_keys_at_every_depth() -> None:
    data = {
        "sevices": 1,
        "agent": {"wieght": "x"},
        "services": [
            {"upstreams": [{"adress": 1, "health_check": {"paht": "/", "headers": {"any": "x"}}}]},
            5,
        ],
        "health_checks": {"global_setting": "text"},
        "zzz": {"inner": 1},
    }
    assert [(path, message) for path, _, message in found(data)] == [
        (("sevices",), 'unknown key, did you mean "services"?'),
        (("agent", "wieght"), 'unknown key, did you mean "weight"?'),
        (("services", 0, "upstreams", 0, "adress"), 'unknown key, did you mean "address"?'),
        (
            ("services", 0, "upstreams", 0, "health_check", "paht"),
            'unknown key, did you mean "path"?',
        ),
        (("health_checks", "global_setting"), 'unknown key, did you mean "global_settings"?'),
        (("zzz",), "unknown key, it is ignored"),
    ]
    assert {severity for _, severity, _ in found(data)} == {"warning"}


@pytest.mark.parametrize(
    "key", ["ip_whitelist", "IP-Whitelist", "basic_auth", "jwt", "rate_limit", "auth"]
)
def test_an_unknown_protection_is_refused_at_every_depth(key: str) -> None:
    assert is_protection(key)
    documents: list[dict[str, Any]] = [
        {key: 1},
        {"services": [{key: {}}]},
        {"services": [{"security": {key + "_": 1}}]},
    ]
    for data in documents:
        assert [severity for _, severity, _ in found(data)] == ["error"]
    assert [severity for _, severity, _ in unknown_keys(ServerConfig, {"api": {key: 1}})] == [
        "error"
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"global_middlewares": []},
        {"services": [{"route": []}]},
        {"services": [{"securty": {}}]},
        {"services": [{"routes": [{"handlers": []}]}]},
        {"services": [{"routes": [{"priority": 1}]}]},
        {"services": [{"routes": [{"match": {"paths": "/public/*"}}]}]},
        {"services": [{"routes": [{"match": {"host": "a.test"}}]}]},
    ],
)
def test_misspelt_protections_are_never_ignored(data: Any) -> None:
    """A misspelt condition would match every request, and a protection after it none."""
    ((_, severity, message),) = found(data)
    assert severity == "error"
    assert message.endswith("never ignored")


def test_handlers_refuse_unknown_keys_themselves() -> None:
    assert (
        found({"services": [{"routes": [{"handle": [{"type": "headers", "config": {"jwt": 1}}]}]}]})
        == []
    )
    security = {"cors": {"orgins": []}, "auth": {"type": "jwt", "config": {"secret": "x"}}}
    assert found({"services": [{"security": security}]}) == []
    assert found("text") == []
