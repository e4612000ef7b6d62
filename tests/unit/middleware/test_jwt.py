"""Tests of zerotrust.middleware.jwt."""

import base64
import json
import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.unit.middleware.policy_runner import SECRET, policy, request, run
from zerotrust.middleware.interface import Request
from zerotrust.middleware.jwt import JwtMiddleware, usable_keys
from zerotrust.middleware.policy import Policy
from zerotrust.model.authentication import JwtConfig

NOW = 1_000_000
HMAC = "s" * 64
RSA = RSAKey.generate_key(2048)
EC = ECKey.generate_key("P-256")
ED = OKPKey.generate_key("Ed25519")
PUBLIC = RSA.as_pem(private=False).decode()
SLOW = (
    rsa.RSAPublicNumbers(2**64 - 59, RSA.public_key.public_numbers().n)
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
OPEN = {"sub": "ann", "exp": NOW + 60}


def token(claims: dict[str, Any], key: Any = None, alg: str = "HS256", **header: Any) -> str:
    registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwt.encode(
            {"alg": alg, **header}, claims, key or OctKey.import_key(HMAC), registry=registry
        )


def guarded(**config: Any) -> Policy:
    return policy(("jwt", {"algorithm": "HS256", "secret": HMAC, **config}))


def signed_by(key: Any, alg: str) -> Policy:
    return policy(("jwt", {"algorithm": alg, "jwks": {"keys": [key.as_dict(private=False)]}}))


def passes(found: Policy, text: str, now: float = 0.0, unix_time: float = NOW) -> bool:
    answer = run(found, request(f"Authorization: Bearer {text}", unix_time=unix_time), now)
    assert answer is None or answer.status == 401
    return answer is None


@pytest.mark.parametrize(
    ("key", "alg"),
    [(RSA, "RS256"), (RSA, "PS384"), (EC, "ES256"), (ED, "EdDSA"), (ED, "Ed25519")],
)
def test_each_kind_of_key(key: Any, alg: str) -> None:
    found = signed_by(key, alg)
    assert passes(found, token(OPEN, key, alg))
    other = type(key).generate_key({"RSA": 2048, "EC": "P-256", "OKP": "Ed25519"}[key.key_type])
    assert not passes(found, token(OPEN, other, alg))


def test_a_token_signed_with_a_secret() -> None:
    assert passes(guarded(), token(OPEN))
    assert not passes(guarded(), token(OPEN, OctKey.import_key("t" * 64)))


def test_a_key_as_pem() -> None:
    found = policy(("jwt", {"algorithm": "RS256", "key": PUBLIC}))
    assert passes(found, token(OPEN, RSA, "RS256"))


def test_the_algorithm_is_pinned() -> None:
    found = policy(("jwt", {"algorithm": "RS256", "key": PUBLIC}))
    assert not passes(found, token(OPEN, RSA, "RS384"))
    assert not passes(found, token(OPEN, RSA, "PS256"))
    assert not passes(guarded(), token(OPEN, alg="HS512"))


def unsigned(header: dict[str, Any], signature: str = "") -> str:
    parts = (json.dumps(header).encode(), json.dumps(OPEN).encode())
    return (
        ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
        + "."
        + signature
    )


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, 5, ["HS256"], {"a": 1}])
def test_unsigned_tokens_are_refused(alg: Any) -> None:
    for found in (guarded(), signed_by(RSA, "RS256")):
        assert not passes(found, unsigned({"alg": alg}))
        assert not passes(found, unsigned({"alg": alg}, "AAAA"))
    assert not passes(guarded(), unsigned({}))


def test_a_public_key_is_no_secret() -> None:
    """RFC 8725 s2.1: HS256 over the public key of an RS256 issuer."""
    import hashlib
    import hmac

    for text in (PUBLIC, PUBLIC.strip(), json.dumps(RSA.as_dict(private=False))):
        start = unsigned({"alg": "HS256"}).rpartition(".")[0]
        digest = hmac.new(text.encode(), start.encode(), hashlib.sha256).digest()
        forged = f"{start}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
        assert not passes(policy(("jwt", {"algorithm": "RS256", "key": PUBLIC})), forged)
        assert not passes(signed_by(RSA, "RS256"), forged)


def test_a_key_in_the_token_is_ignored() -> None:
    other = RSAKey.generate_key(2048)
    forged = token(OPEN, other, "RS256", jwk=other.as_dict(private=False))
    assert not passes(signed_by(RSA, "RS256"), forged)


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"exp": NOW + 1}, True),
        ({"exp": NOW - 29}, True),
        ({"exp": NOW - 31}, False),
        ({}, False),
        ({"exp": None}, False),
        ({"exp": "tomorrow"}, False),
        ({"exp": 1e400}, False),
        ({"exp": float("nan")}, False),
        ({"exp": NOW + 60, "nbf": NOW + 29}, True),
        ({"exp": NOW + 60, "nbf": NOW + 31}, False),
        ({"exp": NOW + 60, "iat": NOW + 31}, False),
        ({"exp": NOW + 60, "now": 0, "leeway": 99999}, True),
    ],
)
def test_expiry_and_not_before(claims: dict[str, Any], good: bool) -> None:
    assert passes(guarded(), token(claims)) is good


def test_a_token_without_end_where_it_is_allowed() -> None:
    assert passes(guarded(require_exp=False), token({"sub": "ann"}))
    assert not passes(guarded(require_exp=False), token({"exp": NOW - 60}))


@pytest.mark.parametrize(
    ("config", "claims", "good"),
    [
        ({"issuer": "https://i"}, {"iss": "https://i"}, True),
        ({"issuer": "https://i"}, {"iss": "https://j"}, False),
        ({"issuer": "https://i"}, {}, False),
        ({"audience": "app"}, {"aud": "app"}, True),
        ({"audience": "app"}, {"aud": ["x", "app"]}, True),
        ({"audience": ["a", "b"]}, {"aud": "b"}, True),
        ({"audience": "app"}, {"aud": ["x"]}, False),
        ({"audience": "app"}, {}, False),
        ({"required_claims": ["email"]}, {"email": "a@b"}, True),
        ({"required_claims": ["email"]}, {}, False),
        ({"required_claims": ["email"]}, {"email": ""}, False),
        ({"required_claims": {"role": "admin"}}, {"role": "admin"}, True),
        ({"required_claims": {"role": "admin"}}, {"role": ["user", "admin"]}, True),
        ({"required_claims": {"role": "admin"}}, {"role": "administrator"}, False),
        ({"required_claims": {"role": ["admin", "ops"]}}, {"role": "ops"}, True),
        ({"required_claims": {"role": ["admin", "ops"]}}, {"role": "user"}, False),
        ({"required_claims": {"now": None}}, {"now": 5}, True),
        ({"required_claims": {"now": None}}, {}, False),
    ],
)
def test_claims(config: dict[str, Any], claims: dict[str, Any], good: bool) -> None:
    assert passes(guarded(**config), token({**OPEN, **claims})) is good


def test_a_valid_token_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    found, text = guarded(leeway=0), token({"exp": NOW + 60})
    assert passes(found, text, now=5)
    monkeypatch.setattr("joserfc.jwt.decode", lambda *_a, **_k: pytest.fail("computed again"))
    assert passes(found, text, now=64.9, unix_time=NOW + 59.9)
    monkeypatch.undo()
    assert not passes(found, text, now=65, unix_time=NOW + 60)


def test_a_token_is_remembered_for_at_most_five_minutes() -> None:
    found, text = guarded(), token({"exp": NOW + 86400})
    assert passes(found, text, now=0)
    assert not passes(found, text, now=300, unix_time=NOW + 99999)


def test_a_changed_clock_ends_a_remembered_token() -> None:
    """The clock was set by an hour; no time has passed."""
    found, text = guarded(leeway=0), token({"nbf": NOW, "exp": NOW + 60})
    assert passes(found, text, now=5)
    assert not passes(found, text, now=5.1, unix_time=NOW + 3600)
    assert not passes(found, text, now=5.2, unix_time=NOW - 3600)
    assert passes(found, text, now=5.3, unix_time=NOW + 1)


def test_places_of_the_token() -> None:
    found, good = guarded(cookie="session", query="token"), token(OPEN)
    for lines, target in (
        ([f"Authorization: bearer  {good}"], "/"),
        ([f"Cookie: a=b; session={good}; c=d"], "/"),
        (["Authorization:", f"Cookie: session={good}"], "/"),
        (["Cookie: a=b", f'Cookie: session="{good}"'], "/"),
        ([], f"/?a=b&token={good}"),
        (["Authorization: Basic YTpi", f"Cookie: session={good}"], f"/?token={good}"),
    ):
        assert run(found, request(*lines, target=target, unix_time=NOW)) is None


@pytest.mark.parametrize(
    "asked",
    [
        request("Cookie: " + "a=b; " * 256, target="/"),
        request(*["Cookie: a=b"] * 200, "Cookie: " + "a=b; " * 60),
        request(target="/?" + "a=b&" * 256),
    ],
)
def test_a_token_is_not_looked_for_among_too_many(asked: Request) -> None:
    answer = run(guarded(cookie="session", query="token"), asked)
    assert answer is not None
    assert (answer.status, answer.code) == (400, "too_many_parameters")
    assert run(guarded(), asked) != answer


def test_places_where_a_token_is_ignored() -> None:
    good = token(OPEN)
    everywhere = guarded(cookie="session", query="token")
    for lines, target in (
        ([], "/"),
        (["Authorization: Bearer"], "/"),
        (["Authorization: Bearer bad", f"Cookie: session={good}"], "/"),
        ([f"Authorization: {good}"], "/"),
        ([f"Authorization: Bearer {good}", f"Authorization: Bearer {good}"], "/"),
        (
            ["Authorization: Bearer bad", "Authorization: Basic YTpi", f"Cookie: session={good}"],
            "/",
        ),
        (["Authorization: Bearer\tbad", f"Cookie: session={good}"], "/"),
        ([f"Cookie: session={good}; session=other"], "/"),
        ([f"Cookie: xsession={good}"], "/"),
        ([], f"/?token={good}&token=other"),
        ([], f"/?Token={good}"),
    ):
        answer = run(everywhere, request(*lines, target=target, unix_time=NOW))
        assert answer is not None and answer.status == 401
    elsewhere = run(
        guarded(), request(f"Cookie: session={good}", target=f"/?token={good}", unix_time=NOW)
    )
    assert elsewhere is not None and elsewhere.status == 401


def test_the_challenge_of_a_refusal() -> None:
    missing = run(guarded(realm="home"), request())
    assert missing is not None
    assert missing.lines == b'WWW-Authenticate: Bearer realm="home"\r\n'
    wrong = run(guarded(realm="home"), request("Authorization: Bearer x"))
    assert wrong is not None
    assert wrong.lines == b'WWW-Authenticate: Bearer realm="home", error="invalid_token"\r\n'


HOSTILE = [
    "a.b.c",
    "..",
    ".",
    "a" * 9000,
    "é",
    "a.b.c.d.e",
    "=.=.=",
    "bnVsbA.bnVsbA.bnVsbA",
    "W10.W10.W10",
    "{}.{}.{}",
]
DEEP = base64.urlsafe_b64encode(b"[" * 1500).rstrip(b"=").decode()


@pytest.mark.parametrize("text", [*HOSTILE, f"{DEEP}.{DEEP}.AA"])
def test_hostile_tokens(text: str) -> None:
    assert not passes(guarded(), text)
    assert not passes(signed_by(RSA, "RS256"), text)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
def test_any_token_is_answered(parts: list[bytes]) -> None:
    text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    assert not passes(guarded(), text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
NAMES = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "enc", "zip", "x5c", "cty"])


BY_SECRET, BY_KEY = guarded(), signed_by(RSA, "RS256")


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_any_header_of_a_token_is_answered(header: dict[str, Any]) -> None:
    assert not passes(BY_SECRET, unsigned(header, "AAAA"))
    assert not passes(BY_KEY, unsigned({**header, "alg": "RS256"}, "AAAA"))


CLAIMS = st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "role"])


@given(st.dictionaries(CLAIMS, JSON, max_size=4))
def test_any_signed_claims_are_answered(claims: dict[str, Any]) -> None:
    found = guarded(issuer="i", audience="a", required_claims={"role": "r"})
    good = {**OPEN, "iss": "i", "aud": "a", "role": "r"}
    assert passes(found, token(good))
    assert not passes(found, token(claims)), "random claims do not have all four that are needed"
    if passes(found, token({**good, **claims})):
        assert claims.get("iss", "i") == "i"
        assert claims.get("role", "r") == "r"
        assert claims.get("aud", "a") in ("a", ["a"]) or "a" in claims["aud"]
        assert claims.get("exp", NOW + 60) > NOW


def test_without_keys_every_request_gets_503() -> None:
    found = policy(("jwt", {"algorithm": "RS256", "jwks_url": "https://i/jwks"}))
    for fields in ([], [f"Authorization: Bearer {token(OPEN, RSA, 'RS256', kid='1')}"]):
        answer = run(found, request(*fields, unix_time=NOW))
        assert answer is not None and (answer.status, answer.code) == (503, "keys_missing")


def test_the_key_is_chosen_by_its_id_among_those_that_fit() -> None:
    rsa = RSA.as_dict(private=False)
    other = {**RSAKey.generate_key(2048).as_dict(private=False), "kid": "2"}
    odd: list[Any] = [
        5,
        {},
        {"kty": "RSA"},
        {"kty": "oct", "k": "AA", "kid": "1"},
        {**rsa, "use": "enc", "kid": "1"},
    ]
    odd += [{**rsa, "alg": "RS512", "kid": "1"}, EC.as_dict(private=False), {"kty": "PQ"}]
    found = policy(
        (
            "jwt",
            {
                "algorithm": "RS256",
                "jwks": {"keys": [*odd, {**rsa, "kid": "1", "use": "sig"}, other]},
            },
        )
    )
    assert passes(found, token(OPEN, RSA, "RS256", kid="1"))
    assert not passes(found, token(OPEN, RSA, "RS256", kid="2"))
    assert not passes(found, token(OPEN, RSA, "RS256", kid="3"))
    assert not passes(found, token(OPEN, RSA, "RS256"))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    SMALL = RSAKey.generate_key(1024)


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"{", b"[]", b'{"keys": 5}', b'{"keys": []}', b"[" * 100_000),
        *(json.dumps({"keys": [key.as_dict(private=False)]}).encode() for key in (EC, SMALL)),
    ],
    ids=["nothing", "cut short", "a list", "a number", "none", "deep", "another kind", "too small"],
)
def test_a_document_without_usable_keys(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"JWKS|Expecting"):
        usable_keys(document, "RS256")


def test_usable_keys_keeps_only_keys_that_verify() -> None:
    good = {**RSA.as_dict(private=False), "kid": "1", "use": "sig", "key_ops": ["verify"]}
    other = {
        **RSAKey.generate_key(2048).as_dict(private=True),
        "kid": "2",
        "x5c": ["A" * 1000],
        "n2": 5,
    }
    signs = {**good, "kid": "3", "key_ops": ["sign"]}
    odd = {**good, "kid": "4", "key_ops": "verify"}
    listed = [good, other, signs, odd, EC.as_dict(private=False), 7]
    document = {"keys": listed, "more": 1}
    found = usable_keys(json.dumps(document).encode(), "RS256")
    assert {key["kid"] for key in found["keys"]} == {"1", "2"}
    assert all(set(key) <= {"kty", "kid", "use", "n", "e"} for key in found["keys"]), (
        "no private part goes anywhere"
    )
    turned = {"keys": listed[::-1]}
    assert usable_keys(json.dumps(turned).encode(), "RS256") == found
    fetched = policy(("jwt", {"algorithm": "RS256", "jwks": found}))
    assert passes(fetched, token(OPEN, RSA, "RS256", kid="1"))
    assert not passes(fetched, token(OPEN, RSA, "RS256", kid="3"))


@given(JSON)
def test_any_document_has_keys_or_is_refused(document: Any) -> None:
    for result in (document, {"keys": document}, {"keys": [document]}):
        with pytest.raises(ValueError):
            usable_keys(json.dumps(result).encode(), "RS256")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"algorithm": "RS256", "key": "nonsense"}, "not a PEM key"),
        ({"algorithm": "RS256", "key": EC.as_pem(private=False).decode()}, "not a PEM key"),
        ({"algorithm": "RS256", "key": SMALL.as_pem(private=False).decode()}, "at least 2048 bits"),
        ({"algorithm": "RS256", "key": SLOW}, "public exponent of at most 32 bits"),
        ({"algorithm": "RS256", "key_file": "x"}, "key_file of jwt was not read"),
        (
            {"algorithm": "ES256", "jwks": {"keys": [RSA.as_dict(private=False)]}},
            "no key for ES256",
        ),
        ({"algorithm": "RS256", "jwks": {}}, "expected .*keys"),
    ],
)
def test_keys_that_cannot_be_used(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JwtMiddleware(JwtConfig.model_validate(config), secret=SECRET)
