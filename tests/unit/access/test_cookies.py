"""Tests of zerotrust.access.cookies."""

import contextlib
import http.cookies
import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.access.cookies import (
    COOKIE,
    WAY,
    cookie_value,
    without_own,
    without_own_set_cookie,
)
from zerotrust.access.secret_format import new_cookie

VALUE = b"A" * 42 + b"-"
OTHER = b"B" * 43


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([b"__Host-0trust=" + VALUE], VALUE),
        ([b"a=b; __Host-0trust=" + VALUE + b"; c=d"], VALUE),
        ([b"a=b", b"__Host-0trust=" + VALUE], VALUE),
        ([b"a=b;__Host-0trust=" + VALUE], VALUE),
        ([b"__Host-0trust-way=" + OTHER + b"; __Host-0trust=" + VALUE], VALUE),
        ([b'a="; __Host-0trust=' + VALUE], VALUE),
        ([], None),
        ([b""], None),
        ([b"__Host-0trust=" + VALUE + b"; __Host-0trust=" + OTHER], None),
        ([b"__Host-0trust=" + VALUE + b"; __Host-0trust=" + VALUE], None),
        ([b"__Host-0trust=" + VALUE, b"__Host-0trust=x"], None),
        ([b"__Host-0trust=" + VALUE[:-1]], None),
        ([b"__Host-0trust=" + VALUE + b"A"], None),
        ([b'__Host-0trust="' + VALUE + b'"'], None),
        ([b"__host-0trust=" + VALUE], None),
        ([b"__Host-0trust-way=" + VALUE], None),
        ([b"__Host-0trust2=" + VALUE], None),
        ([b"x__Host-0trust=" + VALUE], None),
        ([b"a=__Host-0trust=" + VALUE], None),
        ([b"__Host-0trust"], None),
        # Other spellings, which a page of another host can set, lock nobody out.
        ([b"__Host-0trust=" + VALUE + b"; ..Host-0trust=x; __%48ost-0trust=y"], VALUE),
    ],
)
def test_the_cookie_is_found(fields: list[bytes], found: bytes | None) -> None:
    assert cookie_value(COOKIE, fields) == found


def test_the_way_is_found() -> None:
    fields = [b"__Host-0trust=" + VALUE + b"; __Host-0trust-way=" + OTHER]
    assert cookie_value(WAY, fields) == OTHER


@pytest.mark.parametrize(
    "own",
    [
        b"__Host-0trust=x",
        b"__Host-0trust-way=x",
        b"__Host-0trust = x",
        b"__Host-0trust",
        b'"__Host-0trust"=x',
        b"'__Host-0trust'=x",
        b"__host-0TRUST=x",
        b"\t__Host-0trust=x",
        b"__%48ost-0trust=x",
        b"%5f%5FHost-0trust=x",
        b"..Host-0trust=x",
        b"__Host-0trust=a, __Host-0trust=b",
    ],
)
def test_the_servers_cookies_are_removed_in_every_spelling(own: bytes) -> None:
    assert without_own(own) == b""
    assert without_own(b"a=b; " + own) == b"a=b"
    assert without_own(own + b"; a=b; c=d") == b"a=b; c=d"
    assert without_own(b'a="b; ' + own + b"; c=d") == b'a="b; c=d'


@pytest.mark.parametrize(
    "field",
    [
        b"a=b; c=d",
        b"a=b;c=d;",
        b"__Host-0trusted=x",
        b"__Host-0trust-way2=x",
        b"__Host-0trust-x=y",
        b"a=__Host-0trust",
        b"x__Host-0trust=y",
        b'prefs={"a":1,"b":2}',
        b"",
    ],
)
def test_other_cookies_stay_as_they_are(field: bytes) -> None:
    assert without_own(field) == field


PIECES = st.sampled_from(
    [
        b"__Host-0trust",
        b"__Host-0trust-way",
        b"__host-",
        b"0trust",
        b"-way",
        b"=",
        b";",
        b"; ",
        b",",
        b" ",
        b"\t",
        b'"',
        b"'",
        b"%48",
        b"%5f",
        b"_",
        b".",
        b"a",
        b"\\",
        VALUE,
    ]
)
FIELDS = st.one_of(
    st.lists(PIECES, max_size=12).map(b"".join),
    st.binary(max_size=40).map(lambda data: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", data)),
)


def read_by_backends(field: bytes) -> set[bytes]:
    """Return the names of cookies as some backends read them, in lower case."""
    names = set()
    for separator in (rb";", rb"[;,]", rb"[;,\s]"):
        for pair in re.split(separator, field):
            name = pair.partition(b"=")[0].strip(b" \t\"'")
            names |= {name, re.sub(rb"[ .+\[]", b"_", unquote_to_bytes(name).strip())}
    lenient = http.cookies.SimpleCookie()
    with contextlib.suppress(http.cookies.CookieError):
        lenient.load(field.decode("latin-1"))
    names |= {name.encode("latin-1") for name in lenient}
    return {name.lower() for name in names}


@given(FIELDS)
def test_no_backend_reads_one_of_the_servers_cookies(field: bytes) -> None:
    left = without_own(field)
    assert not read_by_backends(left) & {COOKIE.lower(), WAY.lower()}
    assert without_own(left) == left
    assert VALUE not in left or cookie_value(COOKIE, [field]) is None


NAMES = st.text("abc", min_size=1, max_size=4)
TEXTS = st.text("".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '";,\\'))


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=6), st.integers(0, 6))
def test_what_a_browser_sends_loses_only_our_cookies(
    others: list[tuple[str, str]], place: int
) -> None:
    value = new_cookie()
    pairs = [f"{name}={text}" for name, text in others]
    sent = "; ".join([*pairs[:place], f"__Host-0trust={value}", *pairs[place:]]).encode()
    assert cookie_value(COOKIE, [sent]) == value.encode()
    assert without_own(sent) == "; ".join(pairs).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"Set-Cookie: __Host-0trust=x; Path=/; Secure",
        b"set-cookie: __Host-0trust-way=x",
        b"SET-COOKIE: __host-0trust=x",
        b"Set-Cookie:  =__Host-0trust=x",
        b"Set-Cookie: __Host-0trust",
        b"Set-Cookie: \t__Host-0trust =x",
        b"Set-Cookie: ..Host-0trust=x; Domain=example.com",
        b"Set-Cookie2: __Host-0trust=x",
    ],
)
def test_a_backend_cannot_set_the_servers_cookies(line: bytes) -> None:
    block = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n%bServer: s\r\n"
    assert without_own_set_cookie(block % (line + b"\r\n")) == block % b""


@pytest.mark.parametrize(
    "block",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 Set-Cookie: __Host-0trust=x\r\nA: b\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=__Host-0trust\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: __Host-0trusted=1\r\n",
        b"HTTP/1.1 200 OK\r\nX-Set-Cookie: __Host-0trust=1\r\n",
    ],
)
def test_other_fields_of_an_answer_stay(block: bytes) -> None:
    assert without_own_set_cookie(block) == block
