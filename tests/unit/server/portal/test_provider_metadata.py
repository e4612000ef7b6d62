"""Tests of zerotrust.server.portal.provider_metadata, beside those of whole sign-ins."""

import json

import pytest

from zerotrust.errors import ProviderFailed
from zerotrust.server.portal.provider_metadata import ProviderMetadata

HERE = "http://localhost:2019/stop"


def document(issuer: str, **said: str) -> bytes:
    paths = {
        "authorization_endpoint": "/auth",
        "token_endpoint": "/token",
        "jwks_uri": "/keys",
        "userinfo_endpoint": "/user",
        "end_session_endpoint": "/end",
    }
    found = {name: issuer + path for name, path in paths.items()}
    return json.dumps({"issuer": issuer, **found, **said}).encode()


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
def test_a_provider_elsewhere_leads_to_no_program_of_this_machine(name: str) -> None:
    """Caddy's admin API and others listen here, and trust who reaches them."""
    issuer = "https://sso.example.com"
    with pytest.raises(ProviderFailed, match=name):
        ProviderMetadata.parse(document(issuer, **{name: HERE}), issuer=issuer)


def test_optional_endpoints_of_this_machine_count_as_missing() -> None:
    issuer = "https://sso.example.com"
    said = {"userinfo_endpoint": HERE, "end_session_endpoint": HERE}
    found = ProviderMetadata.parse(document(issuer, **said), issuer=issuer)
    assert found.user_info_endpoint == found.end_session_endpoint == ""


def test_a_provider_of_this_machine_may_have_endpoints_here() -> None:
    issuer = "http://127.0.0.1:8080"
    found = ProviderMetadata.parse(document(issuer, userinfo_endpoint=HERE), issuer=issuer)
    assert found.token_endpoint == f"{issuer}/token"
    assert found.user_info_endpoint == HERE
