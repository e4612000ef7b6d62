"""Tests of the header fields for backends, and of the removal of spoofed copies."""

import itertools
from email.header import decode_header, make_header
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerotrust.access.identity_headers import (
    ASSERTION,
    IdentityHeaders,
    is_identity_field,
    without_identity_fields,
)
from zerotrust.http.head import parse_request
from zerotrust.http.head_block import filter_trailers, request_block
from zerotrust.http.headers import folded, is_forbidden_trailer

CLAIMS: dict[str, Any] = {
    "sub": "u_1",
    "email": "anna@example.com",
    "name": "Anna",
    "preferred_username": "anna",
    "groups": ["family", "main/ops"],
}

SPOOFED = [
    "X-0Trust-Jwt-Assertion",
    "Remote-User",
    "Remote-Email",
    "Remote-Name",
    "Remote-Groups",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Groups",
    "X-WEBAUTH-USER",
    "X-WEBAUTH-EMAIL",
    "X-WEBAUTH-NAME",
    "X-WEBAUTH-GROUPS",
    "X-WEBAUTH-ROLE",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "Cf-Access-Authenticated-User-Email",
    "Cf-Access-Jwt-Assertion",
    "X-Pomerium-Claim-Email",
    "X-Pomerium-Jwt-Assertion",
]
SEPARATORS = "-_.+!#$%&'*^`|~"


def spellings() -> list[bytes]:
    """Return each name in several cases, and with each separator."""
    found = []
    for name, sign in itertools.product(SPOOFED, SEPARATORS):
        spelled = name.replace("-", sign)
        found += [spelled, spelled.lower(), spelled.upper(), name.replace("-", sign, 1)]
    return [name.encode() for name in dict.fromkeys(found)]


def forwarded(fields: bytes, *, passed: bytes = b"") -> bytes:
    """Return the block for the backend, after `api.pass_headers` has let `passed` pass."""
    head = parse_request(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + fields + b"\r\n")
    head = without_identity_fields(head)
    kept = [
        line
        for line in head.fields.spoofable.splitlines()
        if line.lower().startswith(passed + b":")
    ]
    return request_block(head, client=b"", proto=b"https") + b"".join(kept if passed else [])


def test_400_spellings_0_pass() -> None:
    """GHSA-vjrc-mh2v-45x6: an identity header spelled with `_` got through."""
    names = spellings()
    assert len(names) >= 400
    for name in names:
        assert b"evil" not in forwarded(b"%b: evil\r\n" % name), name
        assert b"evil" not in forwarded(b"A: b\r\n%b: evil\r\nC: d\r\n" % name), name


def test_400_spellings_0_pass_as_trailers() -> None:
    for name in spellings():
        assert is_forbidden_trailer(folded(name)), name
        kept, _ = filter_trailers(b"%b: evil\r\n" % name, passed={folded(name)}, edited=())
        assert kept == b"", name


def test_pass_headers_lets_none_of_them_pass() -> None:
    for name in SPOOFED:
        passed = name.encode().lower()
        assert b"evil" not in forwarded(passed + b": evil\r\n", passed=passed), name


def test_other_fields_that_pass_headers_names_still_pass() -> None:
    head = parse_request(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nCF-Connecting-IP: 1.2.3.4\r\nRemote-User: x\r\n\r\n"
    )
    assert without_identity_fields(head).fields.spoofable == b"CF-Connecting-IP: 1.2.3.4\r\n"


def test_an_ordinary_head_is_returned_as_it_is() -> None:
    head = parse_request(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Requested-With: x\r\nCf-Worker: y\r\n\r\n"
    )
    assert without_identity_fields(head) is head


@given(st.text("abcCfF-_Xx.poPOmeriumaccess", max_size=30))
def test_no_spelling_passes_the_search(name: str) -> None:
    if name and is_identity_field(folded(name.encode())):
        assert b"evil" not in forwarded(b"%b: evil\r\n" % name.encode())


def fields(**options: Any) -> dict[str, str]:
    return dict(IdentityHeaders(**options).fields(CLAIMS, b"a.b.c"))


def test_the_assertion_is_sent_unless_refused() -> None:
    assert fields() == {ASSERTION: "a.b.c"}
    assert fields(jwt=False) == {}


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (
            "remote_user",
            {
                "Remote-User": "anna",
                "Remote-Email": "anna@example.com",
                "Remote-Name": "Anna",
                "Remote-Groups": "family,main/ops",
            },
        ),
        (
            "auth_request",
            {
                "X-Auth-Request-User": "u_1",
                "X-Auth-Request-Email": "anna@example.com",
                "X-Auth-Request-Preferred-Username": "anna",
                "X-Auth-Request-Groups": "family,main/ops",
            },
        ),
        (
            "webauth",
            {
                "X-WEBAUTH-USER": "anna",
                "X-WEBAUTH-EMAIL": "anna@example.com",
                "X-WEBAUTH-NAME": "Anna",
                "X-WEBAUTH-GROUPS": "family,main/ops",
            },
        ),
        ({"X-Person": "sub"}, {"X-Person": "u_1"}),
    ],
)
def test_styles(style: Any, expected: dict[str, str]) -> None:
    assert fields(jwt=False, headers=style) == expected
    headers = IdentityHeaders(headers=style)
    assert set(headers.names) == {ASSERTION, *expected}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (True, "true"),
        ({"a": 1}, None),
        (None, None),
        (["a", 1], "a,1"),
        ("x" * 999, "x" * 256),
    ],
)
def test_claims_of_other_types(value: Any, text: str | None) -> None:
    found = dict(IdentityHeaders(jwt=False, headers={"X": "c"}).fields({"c": value}, b""))
    assert found.get("X") == text


def test_a_claim_that_is_missing_has_no_field() -> None:
    headers = IdentityHeaders(jwt=False, headers="remote_user")
    assert headers.fields({"preferred_username": "ben", "groups": []}, b"") == [
        ("Remote-User", "ben")
    ]


def text_of(value: str, **options: Any) -> str:
    headers = IdentityHeaders(jwt=False, headers={"X-Name": "name"}, **options)
    found = dict(headers.fields({"name": value}, b""))
    return found.get("X-Name", "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Anna", "Anna"),
        ("Zoë", "=?utf-8?q?Zo=C3=AB?="),
        ("a\r\nX-Admin: yes", "a X-Admin: yes"),
        ("\x00", ""),
        ("=?utf-8?q?admin?=", "=?utf-8?b?PT91dGYtOD9xP2FkbWluPz0=?="),
    ],
)
def test_rfc2047(value: str, expected: str) -> None:
    assert text_of(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("Anna B", "Anna B"), ("Zoë", "Zo%C3%AB"), ("5%2C", "5%252C")]
)
def test_percent_encoding(value: str, expected: str) -> None:
    assert text_of(value, encoding="url") == expected


@given(st.text(max_size=300))
@example("é" * 256)
@example("=?utf-8?q?admin?=")
@example("\ud800")
def test_every_text_is_a_printable_ascii_value_that_decodes(value: str) -> None:
    """tailscale#11603: `é` in a header broke gRPC."""
    for encoding in ("rfc2047", "url"):
        text = text_of(value, encoding=encoding)
        assert all(" " <= sign <= "~" for sign in text)
        assert text == text.strip()
        if encoding == "url":
            decoded = unquote(text)
        else:
            assert all(len(word) <= 75 for word in text.split(" ") if "=?" in word)
            decoded = str(make_header(decode_header(text)))
        expected = "".join(c if c.isprintable() else " " for c in value)
        assert decoded.split() == text_without_controls(value).split(), expected


def text_without_controls(value: str) -> str:
    return "".join(
        " " if sign < " " or "\x7f" <= sign < "\xa0" or "\ud800" <= sign <= "\udfff" else sign
        for sign in value
    )


def test_a_group_with_a_comma_is_left_out() -> None:
    headers = IdentityHeaders(jwt=False, headers={"G": "groups"})
    assert headers.fields({"groups": ["a", "main/x,admins", "b"]}, b"") == [("G", "a,b")]


def test_groups_beyond_ascii() -> None:
    claims = {"groups": ["a", "Büro"]}
    words = dict(IdentityHeaders(jwt=False, headers={"G": "groups"}).fields(claims, b""))["G"]
    assert str(make_header(decode_header(words))) == "a,Büro"
    url = IdentityHeaders(jwt=False, headers={"G": "groups"}, encoding="url")
    assert url.fields(claims, b"") == [("G", "a,B%C3%BCro")]
