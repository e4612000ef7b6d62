"""Tests of zerotrust.model.websocket_limits; tests/config/invalid/websocket.yaml has wrong values."""

from typing import Any

import pytest
from pydantic import ValidationError

from zerotrust.errors import ConfigError
from zerotrust.model.policy import ServicePolicy
from zerotrust.model.service import Service
from zerotrust.model.websocket_limits import WebSocketLimits

LIMITS: dict[str, Any] = {
    "origins": "same",
    "max_message": "1MiB",
    "messages": "50/s",
    "burst": 100,
    "bytes": "1MB/s",
    "handshakes": "10/s",
    "ping": "30s",
}


def test_limits_travel_in_the_policy() -> None:
    service = Service.model_validate(
        {
            "hostname": "a.example.com",
            "backend": "127.0.0.1:1",
            "websocket_limits": LIMITS,
            "max_websockets_per_user": 3,
        }
    )
    policy = ServicePolicy.from_service(service, [])
    assert policy is not None and policy.limits_upgrades
    assert ServicePolicy.from_json(policy.to_json()) == policy
    assert policy.to_json()["websocket_limits"] == {**LIMITS, "ping": 30.0}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("same", "same"),
        ("https://A.example.com/", ["https://a.example.com"]),
        (["https://a.example.com", "http://b"], ["https://a.example.com", "http://b"]),
    ],
)
def test_origins(written: object, read: object) -> None:
    assert WebSocketLimits.model_validate({"origins": written}).origins == read


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"origins": ["same"]}, "invalid origin"),
        ({"origins": []}, "at least 1 item"),
        ({"origins": ["https://a"] * 65}, "at most 64 items"),
        ({"max_message": "0"}, "at least 1 byte"),
        ({"burst": 5}, "burst needs messages"),
        ({"ping": 1}, "at least 5s"),
        ({"quota": 1}, "unknown key"),
        ({"messages": "1/s", "burst": 1_000_001}, "less than or equal"),
    ],
)
def test_wrong_limits(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        WebSocketLimits.model_validate(wrong)
    with pytest.raises(ConfigError, match="websocket_limits"):
        ServicePolicy.from_json({"websocket_limits": wrong})


def test_none_is_the_default() -> None:
    assert WebSocketLimits() == WebSocketLimits.model_validate({"ping": 0})
    assert not ServicePolicy(websocket_limits=WebSocketLimits()).limits_upgrades
