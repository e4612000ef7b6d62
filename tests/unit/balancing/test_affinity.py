"""Tests of zerotrust.balancing.affinity."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from http.cookies import SimpleCookie

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerotrust.balancing.affinity import COOKIE, Affinity, AffinityCookie, strip

SECRET = bytes(range(32))
ADDRESSES = ["10.0.0.1:80", "10.0.0.2:80", "http://[::1]:8080"]
NOW = 1_800_000_000.0


def make(
    *,
    secret: bytes = SECRET,
    service: str = "web",
    upstreams: list[str] = ADDRESSES,
    duration: float = 3600.0,
) -> Affinity:
    return Affinity(secret=secret, service=service, upstreams=upstreams, duration=duration)


def cookie(affinity: Affinity, upstream: str = ADDRESSES[1], now: float = NOW) -> bytes:
    """Return the cookie as the browser sends it back."""
    line = affinity.issue(upstream, now, secure=True)
    return line.removeprefix(b"Set-Cookie: ").partition(b";")[0]


def named(affinity: Affinity, cookies: bytes, now: float = NOW) -> str | None:
    cookie = affinity.read(cookies, now)
    return cookie.upstream if cookie is not None else None


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_issued_cookie_is_read(address: str) -> None:
    affinity = make()
    issued = cookie(affinity, address)
    assert named(affinity, issued) == address
    assert named(affinity, b"a=b; " + issued + b"; c=d", NOW + 3599) == address
    assert named(make(), b"a=b;" + issued + b" ;c=d") == address  # another process


def test_a_cookie_expires() -> None:
    affinity = make(duration=60)
    issued = cookie(affinity)
    assert named(affinity, issued, NOW + 59.9) == ADDRESSES[1]
    assert affinity.read(issued, NOW + 60) is None


@pytest.mark.parametrize(
    ("age", "renew"), [(0, False), (29.9, False), (30, False), (30.1, True), (59.9, True)]
)
def test_a_cookie_is_renewed_after_half_of_its_lifetime(age: float, renew: bool) -> None:
    affinity = make(duration=60)
    assert affinity.read(cookie(affinity), NOW + age) == AffinityCookie(ADDRESSES[1], renew)


def test_a_cookie_from_a_longer_affinity_duration_is_not_renewed() -> None:
    assert make(duration=60).read(cookie(make(duration=3600)), NOW) == AffinityCookie(
        ADDRESSES[1], renew=False
    )


def test_a_cookie_for_a_removed_upstream_is_ignored() -> None:
    assert make(upstreams=ADDRESSES[:1]).read(cookie(make()), NOW) is None


def test_a_cookie_is_invalid_with_another_secret_or_service() -> None:
    issued = cookie(make())
    assert make(secret=b"x" * 32).read(issued, NOW) is None
    assert make(service="api").read(issued, NOW) is None
    opaque = {
        urlsafe_b64decode(cookie(make(service=s)).partition(b"=")[2])[:8]
        for s in ("web", "api", "we")
    }
    assert len(opaque) == 3


def test_the_cookie_does_not_contain_the_address() -> None:
    one, other = cookie(make(), ADDRESSES[0]), cookie(make(), ADDRESSES[1])
    assert urlsafe_b64decode(one[-64:])[:8] != urlsafe_b64decode(other[-64:])[:8]
    assert ADDRESSES[0].encode() not in urlsafe_b64decode(one[-64:])


@given(st.integers(0, 48 * 8 - 1))
def test_a_cookie_with_a_changed_bit_is_invalid(bit: int) -> None:
    raw = bytearray(urlsafe_b64decode(cookie(make())[-64:]))
    raw[bit // 8] ^= 1 << bit % 8
    assert make().read(COOKIE + b"=" + urlsafe_b64encode(raw), NOW) is None


@given(
    st.binary(max_size=200) | st.text("0trus_afiny=;AB-\t \"'\r\n", max_size=120).map(str.encode)
)
def test_arbitrary_bytes_are_no_valid_cookie(value: bytes) -> None:
    assert make().read(value, NOW) is None
    assert make().read(COOKIE + b"=" + value, NOW) is None


@pytest.mark.parametrize("form", [b"x%b", b"%bx", b'"%b"', b"a=%b", b"%b%%", b"a, %b", b"a\n%b"])
def test_a_malformed_cookie_is_ignored(form: bytes) -> None:
    assert make().read(form % cookie(make()), NOW) is None


def test_a_planted_cookie_does_not_hide_the_valid_one() -> None:
    planted, true = COOKIE + b"=" + b"A" * 64, cookie(make())
    assert named(make(), planted + b"; " + true) == ADDRESSES[1]
    assert make().read(b"; ".join([*[planted] * 4, true]), NOW) is None


@pytest.mark.parametrize("secure", [True, False])
def test_the_set_cookie_line(secure: bool) -> None:
    line = make(duration=90.5).issue(ADDRESSES[0], NOW, secure=secure)
    assert re.fullmatch(
        rb"Set-Cookie: 0trust_affinity=[0-9A-Za-z_-]{64}; Path=/; Max-Age=90; HttpOnly;"
        rb" SameSite=Lax%b\r\n" % (b"; Secure" if secure else b""),
        line,
    )
    parsed = SimpleCookie(line.decode().partition(": ")[2].strip())[COOKIE.decode()]
    assert (parsed["path"], parsed["max-age"], parsed["samesite"]) == ("/", "90", "Lax")
    assert parsed["httponly"]
    assert bool(parsed["secure"]) is secure


# ---- strip

PAIRS = st.lists(
    st.sampled_from(
        [b"a=b", COOKIE + b"=x", b"x" + COOKIE + b"=1", b"c=" + COOKIE, COOKIE, b"", b"d", b'e="f"']
    )
    | st.binary(max_size=8).map(lambda raw: raw.replace(b";", b"").strip(b"\t ")),
    max_size=6,
)


def names(value: bytes) -> list[bytes]:
    return [pair.partition(b"=")[0].strip(b"\t ") for pair in value.split(b";")]


@given(PAIRS)
@example([COOKIE + b"=x"])
def test_strip_removes_only_our_cookie(pairs: list[bytes]) -> None:
    value = b"; ".join(pairs)
    left = strip(value)
    assert COOKIE not in names(left)
    others = [pair for pair in pairs if names(pair) != [COOKIE]]
    assert left == (value if len(others) == len(pairs) else b"; ".join(others).strip(b"\t "))
    assert strip(left) == left


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b"", b""),
        (b"a=b", b"a=b"),
        (COOKIE + b"=x", b""),
        (b"a=b; " + COOKIE + b"=x; c=d", b"a=b; c=d"),
        (COOKIE + b"=x;c=d", b"c=d"),
        (b"c=d ;\t" + COOKIE + b" =x", b"c=d"),
        (b"c=" + COOKIE + b"=x", b"c=" + COOKIE + b"=x"),
        (COOKIE.upper() + b"=x", COOKIE.upper() + b"=x"),
    ],
)
def test_strip_keeps_other_cookies_byte_for_byte(value: bytes, left: bytes) -> None:
    assert strip(value) == left
