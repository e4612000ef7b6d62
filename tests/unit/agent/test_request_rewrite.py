"""Tests of zerotrust.agent.request_rewrite."""

import pytest

from zerotrust.agent.request_rewrite import Edits, client_of, cookies_of, is_secure
from zerotrust.balancing.affinity import COOKIE
from zerotrust.http.head_block import check_request_block

OURS = (
    b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host:"
    b" App.example.com\r\nX-Real-IP: 192.0.2.7\r\n"
)


def block(*lines: bytes) -> bytes:
    return (
        b"GET /x HTTP/1.1\r\nHost: App.example.com\r\n"
        + b"".join(line + b"\r\n" for line in lines)
        + OURS
    )


def test_client_scheme_and_cookies_of_a_block() -> None:
    given = block(b"Cookie: a=1; b=2", b"cookie:c=3", b"X-Cookie: d=4")
    assert (client_of(given), is_secure(given), cookies_of(given)) == (
        b"192.0.2.7",
        True,
        b"a=1; b=2; c=3",
    )
    bare = b"GET / HTTP/1.1\r\nHost: a\r\n"
    assert (client_of(bare), is_secure(bare), cookies_of(bare)) == (b"", False, b"")


def test_host() -> None:
    edits = Edits(host=b"10.0.0.1:8123", origin=None, cookie=False)
    assert edits.apply(block(b"A: b")) == block(b"A: b").replace(
        b"Host: App.example.com", b"Host: 10.0.0.1:8123", 1
    )
    assert check_request_block(edits.apply(block()))


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (b"https://app.example.com", b"http://10.0.0.1:8123"),
        (b"https://APP.example.com:443", b"http://10.0.0.1:8123"),
        (b"http://app.example.com", None),
        (b"https://app.example.com:8443", None),
        (b"https://evil.example", None),
        (b"https://app.example.com.evil.example", None),
        (b"null", None),
        (b"", None),
    ],
)
def test_origin_is_rewritten_only_where_it_is_the_services_own(
    given: bytes, seen: bytes | None
) -> None:
    """A backend must be able to refuse foreign origins."""
    edits = Edits(host=None, origin=b"http://10.0.0.1:8123", cookie=False)
    before = block(b"A: b", b"Origin: " + given, b"C: d")
    assert edits.apply(before) == block(
        b"A: b", b"Origin: " + (given if seen is None else seen), b"C: d"
    )


def test_no_origin_is_added() -> None:
    assert Edits(host=None, origin=b"http://a", cookie=False).apply(block()) == block()


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ([b"Cookie: %b=x"], []),
        ([b"Cookie: a=1; %b=x; b=2"], [b"Cookie: a=1; b=2"]),
        ([b"cookie: %b=x", b"Cookie: b=2"], [b"Cookie: b=2"]),
        ([b"Cookie: a=%b"], [b"Cookie: a=%b"]),
        ([b"Cookie: "], [b"Cookie: "]),
    ],
)
def test_the_affinity_cookie_is_removed(given: list[bytes], seen: list[bytes]) -> None:
    def named(lines: list[bytes]) -> bytes:
        return block(*(line.replace(b"%b", COOKIE) for line in lines))

    edited = Edits(host=None, origin=None, cookie=True).apply(named(given))
    assert edited == named(seen)
    assert check_request_block(edited)
