"""Tests of zerotrust.server.portal.oidc_token; test_oidc.py has the lies of providers."""

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from zerotrust.errors import ProviderFailed
from zerotrust.server.portal.oidc_token import (
    LOGOUT_EVENT,
    Expected,
    id_token_claims,
    is_subject,
    logout_token,
)

NOW = 1_800_000_000
KEY = ECKey.generate_key("P-256", {"kid": "a"})
CLAIMS: dict[str, Any] = {
    "iss": "https://sso.example.com",
    "aud": "c",
    "sub": "7",
    "iat": NOW,
    "exp": NOW + 60,
    "nonce": "n",
}

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
names = st.sampled_from([*CLAIMS, "azp", "nbf", "jti", "sid", "events"])


async def keys(algorithm: str, kid: str | None) -> KeySet:
    return KeySet([KEY])


EXPECTED = Expected(
    issuers=("https://sso.example.com",), client_id="c", algorithms=frozenset({"ES256"}), keys=keys
)


def signed(claims: dict[str, Any], **header: Any) -> str:
    return jwt.encode({"alg": "ES256", "kid": "a", **header}, claims, KEY, algorithms=["ES256"])


def claims_of(token: object) -> dict[str, Any] | None:
    """Return the claims of an ID token; None if it is refused."""
    try:
        return asyncio.run(id_token_claims(token, EXPECTED, now=NOW, nonce="n"))
    except ProviderFailed:
        return None


def logs_out(token: object) -> bool:
    try:
        return bool(asyncio.run(logout_token(token, EXPECTED, now=NOW)).id)
    except ProviderFailed:
        return False


def test_a_good_token() -> None:
    assert claims_of(signed(CLAIMS)) == CLAIMS


@given(st.dictionaries(names, values, max_size=4))
def test_odd_claims_are_refused_or_without_effect(changes: dict[str, Any]) -> None:
    found = claims_of(signed({**CLAIMS, **changes}))
    if found is not None:
        assert (found["iss"], found["nonce"]) == (CLAIMS["iss"], "n")
        assert found["aud"] in ("c", ["c"]) or found["azp"] == "c"
        assert is_subject(found["sub"])
        assert found["iat"] <= NOW + 60 and found["exp"] > NOW - 60


@given(st.text(max_size=40) | st.lists(st.binary(max_size=20), min_size=3, max_size=3))
def test_nonsense_is_refused(text: str | list[bytes]) -> None:
    if isinstance(text, list):
        text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in text)
    assert claims_of(text) is None
    assert not logs_out(text)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "b64"]), values))
def test_an_odd_header_is_refused_or_without_effect(header: dict[str, Any]) -> None:
    own = {"alg": "ES256", **header}
    parts = signed(CLAIMS).split(".")
    encoded = base64.urlsafe_b64encode(json.dumps(own).encode()).rstrip(b"=").decode()
    assert claims_of(".".join([encoded, *parts[1:]])) is None  # the signature covers the header


@given(st.integers(0, 400), st.sampled_from("AZaz09-_"))
def test_a_changed_token_is_refused(place: int, character: str) -> None:
    token = signed(CLAIMS)
    place %= len(token) - 1  # the last character has bits that do not count
    changed = token[:place] + character + token[place + 1 :]
    if changed != token and "." not in (token[place], token[place + 1]):
        assert claims_of(changed) is None


@pytest.mark.parametrize("seconds", [-61, -60, -1, 0, 59, 60, 61])
def test_a_minute_of_clocks(seconds: int) -> None:
    good = claims_of(signed({**CLAIMS, "iat": NOW + seconds})) is not None
    assert good is (seconds <= 60)
    good = claims_of(signed({**CLAIMS, "exp": NOW + seconds})) is not None
    assert good is (seconds > -60)


@given(st.dictionaries(names, values, max_size=3))
def test_a_logout_token_needs_its_event_and_no_nonce(changes: dict[str, Any]) -> None:
    own = {**CLAIMS, "jti": "1", "events": {LOGOUT_EVENT: {}}}
    del own["nonce"]
    assert logs_out(signed(own))
    if logs_out(signed({**own, **changes})):
        assert "nonce" not in changes
        assert LOGOUT_EVENT in {**own, **changes}["events"]
    assert not logs_out(signed({**own, "nonce": None}))
