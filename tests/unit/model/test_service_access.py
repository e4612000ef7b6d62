from typing import Any

import pytest
from pydantic import ValidationError

from zerotrust.model.policy import ServicePolicy
from zerotrust.model.service import Service
from zerotrust.model.service_access import AccessRequireConfig, ServiceAccess

GRAFANA: dict[str, Any] = {
    "hostname": "grafana.lab.example.com",
    "backend": "10.0.0.5:3000",
    "access": {
        "require": [{"signed_in": True}, {"group": "ops", "until": "2027-03-31T18:00:00Z"}],
        "identity": {"jwt": True, "headers": "remote_user"},
        "origins": ["https://Grafana.lab.example.com/"],
        "inspection": "metadata",
    },
}


def test_access_of_a_service_travels_in_its_policy() -> None:
    service = Service.model_validate(GRAFANA)
    assert service.access is not None
    assert service.access.origins == ["https://grafana.lab.example.com"]
    policy = ServicePolicy.from_service(service, [])
    assert policy is not None and policy.needs_access
    sent = policy.to_json()
    assert sent["access"]["require"][1] == {
        "group": ["ops"],
        "until": "2027-03-31T18:00:00+00:00",
    }
    assert ServicePolicy.from_json(sent) == policy
    assert policy.conditions == service.access.require


def test_conditions_of_route_handlers_count_too() -> None:
    route = {"handle": [{"type": "access", "config": {"require": [{"machine": "ci-*"}]}}]}
    service = Service.model_validate(
        {"hostname": "a.example.com", "backend": "127.0.0.1:1", "routes": [route]}
    )
    policy = ServicePolicy.from_service(service, [])
    assert policy is not None and policy.needs_access
    assert [item.given for item in policy.conditions] == [{"machine": ["ci-*"]}]
    assert ServicePolicy.from_json(policy.to_json()) == policy


def test_a_policy_without_access_needs_no_server_that_knows_it() -> None:
    assert not ServicePolicy(max_websockets=1).needs_access


def test_defaults() -> None:
    access = ServiceAccess()
    assert access.identity.jwt
    assert access.identity.headers is None
    assert access.inspection == "metadata"
    assert access.require == [] and access.origins == []


@pytest.mark.parametrize(
    "headers", [{"X-User": "email"}, {"X-A": "https://claims.example/x"}, "webauth", "auth_request"]
)
def test_headers(headers: Any) -> None:
    assert (
        ServiceAccess.model_validate({"identity": {"headers": headers}}).identity.headers == headers
    )


@pytest.mark.parametrize(
    "access",
    [
        {"identity": {"headers": {}}},
        {"identity": {"headers": {"X-0Trust-User": "email"}}},
        {"identity": {"headers": {"Host": "email"}}},
        {"identity": {"headers": {"X-User": "a b"}}},
        {"identity": {"headers": "others"}},
        {"identity": {"jtw": True}},
        {"origins": ["app.example.com"]},
        {"origins": ["https://*.example.com"]},
        {"require": [{"country": "unknown"}]},
        {"allow": "anyone"},
    ],
)
def test_wrong_values(access: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServiceAccess.model_validate(access)


def test_settings_of_the_handler() -> None:
    refused: list[Any] = [[], [{"country": "unknown"}], [{}]]
    for require in refused:
        with pytest.raises(ValidationError):
            AccessRequireConfig.model_validate({"require": require})
