from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from zerotrust.config.load import load_server
from zerotrust.model.access import Access, IdentityProvider, ProviderSignIn, Rule, User

EXAMPLE = Path(__file__).parents[2] / "config" / "valid" / "server-access.yaml"
HOSTS = {"hosts": ["a.example.com"]}
ISSUER = {"issuer": "https://sso.example.com/realms/main", "client_id": "0trust"}


def test_the_example_of_a_family_and_a_company() -> None:
    access = load_server(EXAMPLE).config.access
    assert access is not None
    assert access.rp_id == "auth.example.com"
    assert [user.name for user in access.users] == ["anna", "ben", "carla"]
    assert access.identity_providers["google"].sign_in[0].email_domain == ["example.com"]
    secret = access.identity_providers["main"].client_secret_file
    assert secret == str(EXAMPLE.parent / "k.secret")
    lab = access.rules[2]
    assert lab.hosts == ["*.lab.example.com"]
    assert lab.max_age == 12 * 3600
    assert [path.match for path in lab.paths] == [["/healthz"], ["/admin/*"]]
    assert access.rules[0].links and not lab.links


def test_one_host_needs_no_brackets() -> None:
    assert Rule.model_validate({"hosts": "A.Example.com", "allow": "anyone"}).hosts == [
        "a.example.com"
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {"allow": "anyone", "max_age": "1h"},
        {"allow": "signed_in", "fresh": "1h"},
        {"allow": "anyone", "max_age": "1h", "paths": [{"match": "/x", "allow": "nobody"}]},
        {"allow": "signed_in", "paths": [{"match": "/x", "allow": "anyone", "fresh": "1m"}]},
        {"allow": [{"until": "2027-01-01"}]},
        {"allow": [{"country": "unknown"}]},
        {"allow": "signed_in", "require": [{"country": "unknown"}]},
        {"allow": "signed_in", "hosts": ["*"]},
        {"allow": "signed_in", "prefix": "/x"},
    ],
)
def test_rules_that_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate({**HOSTS, **rule})


def test_a_limit_may_be_for_paths_alone() -> None:
    paths = [{"match": "/x", "allow": "signed_in"}]
    rule = Rule.model_validate({**HOSTS, "allow": "anyone", "max_age": "1h", "paths": paths})
    assert rule.max_age == 3600


@pytest.mark.parametrize(
    "provider",
    [
        {**ISSUER, "kind": "google"},
        {"client_id": "x", "kind": "google"},
        {"client_id": "x"},
        {"client_id": "x", "kind": "entra"},
        {"client_id": "x", "kind": "entra", "tenant": "organizations"},
        {"client_id": "x", "kind": "entra", "tenant": "example.com"},
        {**ISSUER, "tenant": "8f2c0d5e-0000-4000-8000-000000000000"},
        {**ISSUER, "scopes": ["email"]},
        {**ISSUER, "scopes": ["openid", "a b"]},
        {**ISSUER, "sign_in": [{"group": "staff"}]},
        {**ISSUER, "client_secret": "s"},
        {**ISSUER, "issuer": "sso.example.com"},
        {**ISSUER, "issuer": "http://sso.example.com"},
        {**ISSUER, "issuer": "https://sso.example.com?x"},
        {**ISSUER, "issuer": "https://a@sso.example.com"},
        {**ISSUER, "issuer": "https://[::1"},
    ],
)
def test_providers_that_are_refused(provider: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IdentityProvider.model_validate(provider)


@pytest.mark.parametrize(
    "provider",
    [
        ISSUER,
        {**ISSUER, "issuer": "http://127.0.0.1:4000"},
        {**ISSUER, "issuer": "http://sso.localhost:4000/x"},
        {"kind": "entra", "tenant": "8F2C0D5E-0000-4000-8000-000000000000", "client_id": "x"},
        {"kind": "google", "client_id": "x", "sign_in": [{"email": "a@example.com"}]},
        {
            **ISSUER,
            "groups_claim": "groups",
            "sign_in": [{"group": ["staff"], "claim": {"a": "b"}}],
        },
    ],
)
def test_providers(provider: dict[str, Any]) -> None:
    assert IdentityProvider.model_validate(provider).client_id


def test_other_values_that_are_refused() -> None:
    for user in ({"name": "a b"}, {"name": "a", "email": "x"}, {"name": "a", "groups": ["g/x"]}):
        with pytest.raises(ValidationError):
            User.model_validate(user)
    with pytest.raises(ValidationError):
        ProviderSignIn.model_validate({})
    auth = {"auth_host": "auth.example.com"}
    for access in (
        {**auth, "admin_host": "AUTH.example.com"},
        {**auth, "users": [{"name": "anna"}, {"name": "anna"}]},
        {**auth, "admins": [{"path": "/x"}]},
        {**auth, "viewers": [{"until": "2027-01-01"}]},
        {"auth_host": "*.example.com"},
    ):
        with pytest.raises(ValidationError):
            Access.model_validate(access)
    assert Access.model_validate({**auth, "passkey_domain": "example.com"}).rp_id == "example.com"
