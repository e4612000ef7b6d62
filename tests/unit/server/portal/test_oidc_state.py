"""Tests of zerotrust.server.portal.oidc_state."""

import json
import string
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import OctKey

from zerotrust.access.hand_over import Attempt, new_way
from zerotrust.server.portal.oidc_state import MAX_STATE, SignInState

NOW = 1_800_000_000.0
PRINTABLE = string.digits + string.ascii_letters + string.punctuation.replace("\\", "")

attempts = st.builds(
    lambda host, rest: Attempt.begin(new_way(), host=host, to=f"/{rest}"),
    st.sampled_from(["a.example", ".".join(["x" * 60] * 4)]),
    st.text(PRINTABLE, max_size=2047),
)


def opened(sealed: str, way: bytes, *, after: float = 0.0, provider: str = "p") -> object:
    return SignInState.open(sealed, way, provider=provider, now=NOW + after)


@given(attempts | st.none())
def test_a_state_opens_for_its_browser_and_no_other(attempt: Attempt | None) -> None:
    way = new_way()
    state = SignInState.begin("p", attempt, now=NOW)
    sealed = state.seal(way)
    assert len(sealed) <= MAX_STATE
    found = SignInState.open(sealed, way, provider="p", now=NOW)
    assert found is not None
    assert (found.r, found.begun_at) == (state.r, int(NOW))
    if attempt is None or found.attempt == attempt:
        assert found == state
    else:  # too long: the service begins a new attempt, at the same host
        assert found.attempt is not None
        assert (found.attempt.host, found.attempt.n) == (attempt.host, "")
        assert found.attempt.to in (attempt.to.partition("?")[0], "/")
    assert opened(sealed, new_way()) is None
    assert opened(sealed, way, provider="q") is None


@given(st.text(max_size=50) | st.binary(max_size=300).map(lambda one: one.decode("latin-1")))
def test_nonsense_is_no_state(text: str) -> None:
    assert opened(text, new_way()) is None


@given(st.integers(0, 300), st.sampled_from("AZaz09-_."))
def test_a_changed_state_is_none(place: int, character: str) -> None:
    way = new_way()
    sealed = SignInState.begin("p", None, now=NOW).seal(way)
    place %= len(sealed)
    changed = sealed[:place] + character + sealed[place + 1 :]
    found = opened(changed, way)
    # The last character of base64 has bits that do not count.
    assert found is None or changed == sealed or sealed[place + 1 : place + 2] in ("", ".")


@pytest.mark.parametrize(
    ("after", "good"), [(-61, False), (-59, True), (0, True), (600, True), (601, False)]
)
def test_a_state_is_good_for_ten_minutes(after: float, good: bool) -> None:
    way = new_way()
    sealed = SignInState.begin("p", None, now=NOW).seal(way)
    assert (opened(sealed, way, after=after) is not None) is good


def test_nonce_and_verifier_depend_on_browser_and_attempt() -> None:
    ways = [new_way(), new_way()]
    states = [SignInState.begin("p", None, now=NOW) for _ in range(2)]
    secrets = {
        secret
        for state in states
        for way in ways
        for secret in (state.nonce(way), state.verifier(way))
    }
    assert len(secrets) == 8
    assert all(len(secret) == 43 for secret in secrets)
    assert states[0].spent != states[1].spent
    assert states[0].r.hex() not in repr(states[0])


def forged(way: bytes, content: bytes) -> object:
    """Open what a browser has sealed itself: its owner has the cookie that the key is made from."""
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"0trust state").derive(way)
    header = {"alg": "dir", "enc": "A256GCM"}
    return opened(jwe.encrypt_compact(header, content, OctKey.import_key(key)), way)


GOOD = ["p", int(NOW), "cmFuZG9tIHJhbmRvbQ", "sign_in", ""]
ATTEMPT = ["app.example.com", "/x", "n" * 22, "c" * 42 + "A"]


def test_a_forged_state_like_those_of_the_server_is_one() -> None:
    way = new_way()
    for parts in (GOOD, [*GOOD, *ATTEMPT], [*GOOD, ATTEMPT[0], "/x", "", ""]):
        assert isinstance(forged(way, json.dumps(parts).encode()), SignInState)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, ["p"]),
        (1, "x"),
        (1, None),
        (1, [1]),
        (1, float("nan")),
        (2, 7),
        (2, "é"),
        (3, "admin"),
        (3, []),
        (4, {}),
        (5, ["a"]),
        (5, "evil.example/"),
        (6, "//evil.example"),
        (6, ".evil.example/"),
        (6, "/\\evil.example"),
        (6, None),
        (7, "x"),
        (7, 7),
        (8, "x"),
        (8, 7),
    ],
)
def test_a_forged_state_of_another_form_is_none(place: int, value: object) -> None:
    parts: list[object] = [*GOOD, *ATTEMPT]
    parts[place] = value
    assert forged(new_way(), json.dumps(parts).encode()) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
)
def test_any_forged_state_is_read_or_refused(content: bytes) -> None:
    forged(new_way(), content)


def test_a_deep_forged_state_is_none() -> None:
    assert forged(new_way(), b"[" * 900 + b"]" * 900) is None


def test_a_time_of_hundreds_of_digits_is_no_fault() -> None:
    way = new_way()
    state = replace(SignInState.begin("p", None, now=NOW), begun_at=10**400)
    assert opened(state.seal(way), way) is None
