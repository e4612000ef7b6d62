"""Tests of zerotrust.model.policy."""

from typing import Any

import pytest

from zerotrust.errors import ConfigError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.authentication import KeySource
from zerotrust.model.policy import ServicePolicy
from zerotrust.model.service import Service

SECRET = "s" * 32
LIMIT: dict[str, Any] = {"type": "rate_limit", "config": {"rate": "10/s"}}
JWT: dict[str, Any] = {
    "type": "jwt",
    "config": {"algorithm": "HS256", "secret": SECRET, "required_claims": ["sub"], "leeway": "1m"},
}


def policy(*, middleware: list[Any] | None = None, **keys: Any) -> ServicePolicy | None:
    config = AgentConfig.model_validate(
        {
            "services": [{"hostname": "a.example", "backend": "x:1", **keys}],
            "global_middleware": middleware or [],
        }
    )
    return ServicePolicy.from_service(config.services[0], config.global_middleware)


FETCHED: dict[str, Any] = {
    "type": "jwt",
    "config": {"algorithm": "RS256", "jwks_url": "https://issuer.example/keys", "issuer": "us"},
}
SOURCE = KeySource("https://issuer.example/keys", "RS256")


def test_fetched_keys_replace_their_url() -> None:
    other = {**FETCHED, "config": {**FETCHED["config"], "algorithm": "ES256"}}
    asked = policy(
        middleware=[JWT, FETCHED], security={"auth": other}, routes=[{"handle": [FETCHED]}]
    )
    assert asked is not None
    assert asked.key_sources == {SOURCE, KeySource("https://issuer.example/keys", "ES256")}
    document = {"keys": [{"kty": "RSA"}]}
    values = asked.to_json({SOURCE: document})
    known = {"algorithm": "RS256", "jwks": document, "issuer": "us"}
    assert (
        values["global_middleware"][1]["config"]
        == values["routes"][0]["handle"][0]["config"]
        == known
    )
    assert values["security"]["auth"]["config"] == other["config"]
    assert asked.to_json()["routes"][0]["handle"][0]["config"] == FETCHED["config"]
    assert ServicePolicy.from_json(values).to_json() == values


@pytest.mark.parametrize("keys", [{}, {"websocket": False, "timeout": "5s"}])
def test_a_service_without_rules_has_no_policy(keys: dict[str, Any]) -> None:
    assert policy(**keys) is None


@pytest.mark.parametrize(
    "keys",
    [
        {"middleware": [LIMIT]},
        {"security": {"auth": JWT, "cors": {"origins": ["https://x.example"], "max_age": "1h"}}},
        {
            "routes": [
                {
                    "match": {"path": "/a/*", "method": ["GET"], "headers": {"X": "y"}},
                    "handle": [LIMIT],
                }
            ]
        },
        {
            "routes": [
                {
                    "handle": [
                        {
                            "type": "headers",
                            "config": {"request": {"set": {"X-A": 3}, "delete": ["B"]}},
                        }
                    ]
                }
            ]
        },
        {
            "routes": [
                {"handle": [{"type": "IP-Whitelist", "config": {"allowed_ips": ["10.0.0.1/8"]}}]}
            ]
        },
        {"max_request_body": "10MB"},
        {"max_websockets": 5, "max_websockets_per_client": 2},
    ],
)
def test_a_policy_survives_json(keys: dict[str, Any]) -> None:
    asked = policy(**keys)
    assert asked is not None
    values = asked.to_json()
    assert ServicePolicy.from_json(values).to_json() == values
    again = ServicePolicy.from_json(values)
    for name in ("routes", "security", "global_middleware", "max_request_body", "max_websockets"):
        assert getattr(again, name) == getattr(asked, name)


def test_unknown_keys_are_not_sent() -> None:
    asked = policy(routes=[{"match": {"path": "/a", "pahh": "x"}, "note": "mine"}])
    assert asked is not None
    assert asked.to_json()["routes"] == [{"match": {"path": "/a"}}]


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"quota": 1}, '"quota"'),
        ({"routes": [{"match": {"country": "x"}}]}, "routes.0.match.country"),
        ({"routes": [{}, {"guard": 1}]}, "routes.1.guard"),
        ({"security": {"mtls": True}}, "security.mtls"),
        ({"security": {"auth": {**JWT, "config": {**JWT["config"], "nonce": True}}}}, '"nonce"'),
        ({"global_middleware": [{"type": "waf", "config": {}}]}, '"waf"'),
        ({"global_middleware": [LIMIT] * 257}, "global_middleware"),
        ({"routes": [{}] * 1025}, "routes"),
        ({"routes": {}}, "routes"),
        ({"routes": None}, "routes"),
        ({"max_websockets": 0}, "max_websockets"),
        ({"max_request_body": "-1"}, "max_request_body"),
    ],
)
def test_an_unknown_key_refuses_the_whole_policy(values: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError, match=place.replace(".", r"\.")):
        ServicePolicy.from_json(values)


def test_a_refusal_contains_no_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        ServicePolicy.from_json(
            {
                "security": {
                    "auth": {"type": "jwt", "config": {"secret": SECRET, "algorithm": "none"}}
                }
            }
        )
    assert SECRET not in str(caught.value)


def test_to_json_does_not_change_the_service() -> None:
    service = Service.model_validate(
        {"hostname": "a", "backend": "x:1", "routes": [{"handle": [LIMIT]}]}
    )
    before = service.model_copy(deep=True)
    asked = ServicePolicy.from_service(service, [])
    assert asked is not None
    asked.to_json()["routes"].clear()
    assert service == before
