"""Tests of zerotrust.model.authentication."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from zerotrust.model.authentication import BasicAuthConfig, JwtConfig, parse_users

BCRYPT = "$2y$10$" + "a" * 53
ARGON2 = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21l$" + "a" * 43


def messages(model: type[BasicAuthConfig] | type[JwtConfig], keys: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(keys)
    return str(caught.value)


@pytest.mark.parametrize("users", [{"a": BCRYPT, "b": ARGON2}, [f"a:{BCRYPT}", f"b:{ARGON2}"]])
def test_users(users: Any) -> None:
    config = BasicAuthConfig.model_validate({"users": users})
    assert config.users == {"a": BCRYPT, "b": ARGON2}
    assert BCRYPT not in repr(config)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "either users"),
        ({"users": {}}, "either users"),
        ({"users": {"a": BCRYPT}, "users_file": "x"}, "either users"),
        ({"users": {"a": "secret"}}, "plain-text password"),
        ({"users": {"a": "$1$abc$def"}}, "unsupported hash type"),
        (
            {"users": {"a": "$2y$14$" + "a" * 53}},
            "bcrypt of cost 14 takes 820 ms on a small server, at most 500 ms",
        ),
        (
            {"users": [f"b:{BCRYPT}", "a:$2y$14$" + "a" * 53]},
            'line 2: user "a": bcrypt of cost 14 takes',
        ),
        ({"users": {"a": ARGON2.replace("65536", "9999999")}}, "is too costly"),
        ({"users": {"a": ARGON2.replace("t=3", "t=99")}}, "is too costly"),
        ({"users": {"a:b": BCRYPT}}, "without colon"),
        ({"users": {"": BCRYPT}}, "a user name must be"),
        ({"users": {"a\n": BCRYPT}}, "a user name must be"),
        ({"users": ["a"]}, "line 1: expected name:hash"),
        ({"users": [f"a:{BCRYPT}", f"a:{BCRYPT}"]}, "is given twice"),
        ({"users": {"a": BCRYPT}, "realm": 'a"b'}, "realm"),
    ],
)
def test_invalid_users(keys: dict[str, Any], message: str) -> None:
    assert message in messages(BasicAuthConfig, keys)


def test_a_costly_hash_in_a_file_is_named_by_file_line_and_user() -> None:
    config = BasicAuthConfig.model_validate({"users_file": "users"})
    with pytest.raises(
        ValueError, match='users_file users: line 2: user "ann": bcrypt of cost 14 takes 820 ms'
    ):
        config.with_files({"users": b"# people\nann:" + b"$2a$14$" + b"a" * 53})


def test_users_from_a_file() -> None:
    config = BasicAuthConfig.model_validate({"users_file": "users", "realm": "home"})
    assert config.files == {"users_file": "users"}
    filled = config.with_files({"users": f"# people\n\nann:{BCRYPT}\r\n".encode()})
    assert filled.users == {"ann": BCRYPT}
    assert filled.realm == "home"
    assert filled.files == {}


@pytest.mark.parametrize("content", [b"", b"ann", b"ann:secret", b"\xff", b"a:b\na:b", b"# only"])
def test_a_file_that_cannot_be_used_is_named(content: bytes) -> None:
    config = BasicAuthConfig.model_validate({"users_file": "users"})
    with pytest.raises(ValueError, match="users_file"):
        config.with_files({"users": content})


@given(st.text())
def test_any_text_is_users_or_refused(text: str) -> None:
    try:
        assert all(":" not in name for name in parse_users(text))
    except ValueError:
        return


JWKS: dict[str, Any] = {"keys": []}


@pytest.mark.parametrize(
    "keys",
    [
        {"algorithm": "HS256", "secret": "s" * 32},
        {"algorithm": "HS512", "secret": "s" * 64, "audience": "app", "required_claims": ["sub"]},
        {"algorithm": "RS256", "key": "pem"},
        {"algorithm": "ES256", "jwks": JWKS},
        {"algorithm": "EdDSA", "jwks_url": "https://issuer.example/jwks"},
        {"algorithm": "EdDSA", "jwks_url": "http://127.0.0.1:8080/jwks?realm=a"},
        {"algorithm": "EdDSA", "jwks_url": "http://[::1]/jwks"},
        {"algorithm": "HS256", "secret_file": "x"},
    ],
)
def test_exactly_one_key_is_accepted(keys: dict[str, Any]) -> None:
    config = JwtConfig.model_validate(keys)
    assert "ssss" not in repr(config)
    assert JwtConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"secret": "s" * 32}, "algorithm"),
        ({"algorithm": "none", "secret": "s" * 32}, "accept unsigned tokens"),
        ({"algorithm": "None", "secret": "s" * 32}, "accept unsigned tokens"),
        ({"algorithm": "HS256"}, "found none"),
        (
            {"algorithm": "HS256", "secret": "s" * 32, "jwks_url": "https://x/"},
            "found secret, jwks_url",
        ),
        ({"algorithm": "HS256", "key": "pem"}, "key does not fit"),
        ({"algorithm": "HS256", "jwks": JWKS}, "jwks does not fit"),
        ({"algorithm": "RS256", "secret": "s" * 32}, "secret does not fit"),
        (
            {"algorithm": "HS256", "secret": "-----BEGIN PUBLIC KEY-----" + "s" * 32},
            "secret contains a key",
        ),
        ({"algorithm": "HS256", "secret": "short"}, "at least 32 bytes"),
        ({"algorithm": "HS384", "secret": "s" * 47}, "at least 48 bytes"),
        ({"algorithm": "RS256", "jwks_url": "file:///etc/passwd"}, "invalid URL"),
        ({"algorithm": "RS256", "jwks_url": "https://"}, "invalid URL"),
        ({"algorithm": "RS256", "jwks_url": "https://x:99999/"}, "invalid URL"),
        ({"algorithm": "RS256", "jwks_url": "https://x/ y"}, "invalid URL"),
        ({"algorithm": "RS256", "jwks_url": "http://issuer.example/keys"}, "could be forged"),
        ({"algorithm": "RS256", "jwks_url": "http://127.0.0.1.example/keys"}, "could be forged"),
        ({"algorithm": "RS256", "jwks_url": "http://localhost@evil.example/"}, "name or password"),
        (
            {"algorithm": "RS256", "jwks_url": "https://me:secret@issuer.example/"},
            "name or password",
        ),
        ({"algorithm": "RS256", "key": "x", "leeway": "1h"}, "leeway"),
        ({"algorithm": "RS256", "key": "x", "alogrithm": "none"}, 'did you mean "algorithm"?'),
    ],
)
def test_invalid_keys(keys: dict[str, Any], message: str) -> None:
    text = messages(JwtConfig, keys)
    assert message in text


def test_keys_from_files() -> None:
    secret = JwtConfig.model_validate({"algorithm": "HS256", "secret_file": "s"})
    assert secret.with_files({"s": b"s" * 32 + b"\n"}).secret == "s" * 32
    keys = JwtConfig.model_validate({"algorithm": "RS256", "jwks_file": "j"})
    assert keys.with_files({"j": json.dumps(JWKS).encode()}).jwks == JWKS
    with pytest.raises(ValueError, match=r"secret_file.*at least 32 bytes"):
        secret.with_files({"s": b"short"})
    with pytest.raises(ValueError, match="jwks_file j"):
        keys.with_files({"j": b"{"})


@pytest.mark.parametrize(("count", "accepted"), [(16, True), (17, False)])
def test_a_required_claim_has_at_most_16_values(count: int, accepted: bool) -> None:
    keys = {
        "algorithm": "HS256",
        "secret": "s" * 32,
        "required_claims": {"group": [str(number) for number in range(count)]},
    }
    if accepted:
        JwtConfig.model_validate(keys)
    else:
        assert 'claim "group" has 17 values; at most 16 are allowed' in messages(JwtConfig, keys)
