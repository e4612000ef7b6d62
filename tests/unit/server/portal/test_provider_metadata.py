"""Tests of zerotrust.server.portal.provider_metadata, beside those of whole sign-ins."""

import json
from typing import Any, cast

import pytest
from joserfc.jwk import ECKey

from zerotrust.errors import ProviderFailed
from zerotrust.server.portal.provider_http import ProviderHttp
from zerotrust.server.portal.provider_metadata import MAX_KEYS, MetadataCache, ProviderMetadata

pytestmark = pytest.mark.anyio

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


class Documents:
    """A provider's documents, in place of its HTTP client."""

    def __init__(self, keys: list[dict[str, Any]]) -> None:
        self.keys = keys

    async def document(self, url: str) -> bytes:
        if url.endswith("/keys"):
            return json.dumps({"keys": self.keys}).encode()
        return document("https://sso.example.com")


@pytest.mark.parametrize("more", [0, 1])
async def test_a_provider_has_a_bounded_number_of_keys(more: int) -> None:
    """A token without the id of its key is compared with all of them, and anyone may send one."""
    key = dict(ECKey.generate_key("P-256").as_dict(private=False))
    http = cast("ProviderHttp", Documents([key] * (MAX_KEYS + more)))
    cache = MetadataCache("https://sso.example.com", http, clock=lambda: 0.0)
    if more:
        with pytest.raises(ProviderFailed, match="at most 64 keys"):
            await cache.keys("ES256", None)
    else:
        assert len((await cache.keys("ES256", None)).keys) == MAX_KEYS
