"""Tests of zerotrust.routing.match."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from zerotrust.http.head import RequestFields, parse_request
from zerotrust.model.service import RouteMatch
from zerotrust.routing.match import (
    MAX_PATH_BYTES,
    AmbiguousPath,
    Match,
    PathTooLong,
    readings,
    values_of,
)
from zerotrust.routing.query import AmbiguousQuery


def fields(*lines: str) -> RequestFields:
    head = (
        "GET / HTTP/1.1\r\nHost: App.example\r\n"
        + "".join(f"{line}\r\n" for line in lines)
        + "\r\n"
    )
    return parse_request(head.encode("latin-1")).fields


def match(**keys: Any) -> Match:
    return Match(RouteMatch.model_validate(keys))


def takes(path: str, pattern: str) -> bool:
    return match(path=pattern).path_fits(path.encode())


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("/*", ["/", "/x", "/x/y", "*"], []),
        ("*", ["/", "/x"], []),
        ("/x", ["/x"], ["/x/", "/", "/xy", "/X", "/a/x", "/x\n"]),
        (
            "/admin/*",
            ["/admin", "/admin/", "/admin/x", "/admin/x/y\n"],
            ["/administrator", "/", "/a/admin", "/ADMIN"],
        ),
        ("/admin*", ["/admin", "/administrator", "/admin/x"], ["/adm", "/x/admin"]),
        ("*.php", ["/a.php", "/x/b.php", "/.php"], ["/a.php/x", "/php"]),
        ("/a/*/b", ["/a/x/b", "/a/x/y/b", "/a//b"], ["/a/b", "/a/x/bc"]),
        ("/a/*/b/*", ["/a/x/b", "/a/x/b/c", "/a/b/b/b/c"], ["/a/b/c", "/a/x/bc"]),
        ("*/b", ["/b", "/a/b"], ["/b/", "/ab"]),
        ("*aab", ["/aaab", "/aabaab"], ["/aaba"]),
        ("/*a*a*a", ["/aaa", "/xaxaxa"], ["/aa", "/aaab"]),
        ("/with%20space/%c3%bc", ["/with space/ü"], ["/with%20space/ü"]),
        ("/ü/*", ["/ü/x"], ["/u/x"]),
        ("/a.b+c", ["/a.b+c"], ["/axb+c", "/a.bbc"]),
    ],
)
def test_paths(pattern: str, inside: list[str], outside: list[str]) -> None:
    assert [path for path in inside if not takes(path, pattern)] == []
    assert [path for path in outside if takes(path, pattern)] == []


@given(st.text("/ab", max_size=12), st.text("/ab*", max_size=6))
@example("/aab", "*ab*b")
def test_a_star_stands_for_any_characters(path: str, pattern: str) -> None:
    """Compared with the usual definition of a glob."""

    def glob(text: str, rest: str) -> bool:
        if not rest:
            return not text
        if rest[0] == "*":
            return any(glob(text[i:], rest[1:]) for i in range(len(text) + 1))
        return bool(text) and text[0] == rest[0] and glob(text[1:], rest[1:])

    try:
        compiled = match(path="/" + pattern)
    except ValidationError:
        return
    written = "/" + pattern
    expected = glob("/" + path, written)
    if written.endswith("/*"):
        expected = expected or glob("/" + path, written[:-2])
    assert compiled.path_fits(f"/{path}".encode()) is expected


@pytest.mark.timeout(20)
def test_hostile_paths_cost_no_exponential_time() -> None:
    pattern = match(path="/" + "*a" * 30 + "b*")
    assert not pattern.path_fits(b"/" + b"a" * 30_000)


def test_most_patterns_need_no_search() -> None:
    """A beginning and an end are compared in place; only pieces between two stars are searched."""
    searches = {
        "/a": 0,
        "/a/*": 0,
        "/a*": 0,
        "*.php": 0,
        "/a/*/b": 0,
        "/a/*/b/*": 1,
        "*b*": 1,
        "/*ab*cd": 1,
        "/*a*b*c": 2,
    }
    assert {pattern: match(path=pattern).searches for pattern in searches} == searches


@pytest.mark.parametrize("path", ["/", "/a/b.c/~d", "/.well-known/x", "/a...b", "/..a/b.c"])
def test_a_common_path_has_one_reading(path: str) -> None:
    assert readings(path.encode()) == (path.encode(),)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/%61dmin", ("/admin",)),
        ("/%41", ("/A",)),
        ("//admin", ("//admin", "/admin", "/")),
        ("//a/b", ("//a/b", "/a/b", "/b")),
        ("//a/b%2Fc", ("//a/b%2Fc", "/a/b/c", "/b%2Fc", "/b/c")),
        ("/\\a\\b", ("/\\a\\b", "/a/b", "\\b", "/b")),
        ("/..a/b..", ("/..a/b..", "/..a/b")),
        ("/a%20/%20/b", ("/a / /b", "/a/b")),
        ("/a//b", ("/a//b", "/a/b")),
        ("/a%2Fb", ("/a%2Fb", "/a/b")),
        ("/a%2fb", ("/a%2Fb", "/a/b")),
        ("/a%5cb", ("/a\\b", "/a/b")),
        ("/a\\b", ("/a\\b", "/a/b")),
        ("/admin;x=1/y", ("/admin;x=1/y", "/admin/y", "/admin")),
        ("/admin%3bx", ("/admin;x", "/admin")),
        ("/%2561dmin", ("/%61dmin", "/admin")),
        ("/%252541", ("/%2541", "/A")),
        ("/100%", ("/100%",)),
        ("/%zz", ("/%zz",)),
        ("/%C3%BC", ("/ü",)),
        # Some cut parameters off before they decode, some behind the first of two decodings, some
        # keep a backslash.
        ("/admin;x%2Fy", ("/admin;x%2Fy", "/admin/y", "/admin")),
        ("/admin;x\\y", ("/admin;x\\y", "/admin/y", "/admin")),
        ("/admin%3Bx%252Fy", ("/admin;x%2Fy", "/admin/y", "/admin")),
        # A decoded path that is made into a target again ends at its question mark.
        ("/admin%3Fx", ("/admin?x", "/admin")),
        ("/admin%2523x", ("/admin%23x", "/admin#x", "/admin")),
        ("/%u0061dmin", ("/%u0061dmin", "/admin")),
        ("/a%u002Fb", ("/a%u002Fb", "/a/b")),
        ("/%25u0061", ("/%u0061", "/a")),
        ("/%u00%32fx", ("/%u002fx", "/x", "/")),
    ],
)
def test_readings_of_a_path(path: str, expected: tuple[str, ...]) -> None:
    assert readings(path.encode()) == tuple(reading.encode() for reading in expected)


DOTS = [
    "/.",
    "/..",
    "/./admin",
    "/x/../admin",
    "/x/%2e%2e/admin",
    "/x/.%2E/a",
    "/x/..;/admin",
    "/x/..%2fadmin",
]
DOTS += [
    "/x/..%5cadmin",
    "/x\\..\\admin",
    "/x/%252e%252e/admin",
    "/a/.;b/c",
    "/x%2f%2e%2e%2fy",
    "/..%3b/x",
    "/x/%2e",
]


DOTS += ["/x/..%20/y", "/x/...", "/x/%20.%20/y", "/x/.%20."]
CODES = [
    "/x/%c0%ae%c0%ae/y",
    "/x/%u002e%u002e/y",
    "/x/..%c0%af../y",
    "/x/..%C1%9cy",
    "/x/..%e0%80%afy",
    "/%25u002e/y",
    "/%u0000",
    "/%c0%80",
    "/%u0061%c0%af",
    "/%c0%a5u0061",
    "/%uff41dmin",
    "/%u0025u0101",
    "/%u0061" + "a" * 1024,
]


@pytest.mark.parametrize("path", [*DOTS, *CODES, "/a%00", "/%0d%0aX", "/a%7f", "/%2525252541"])
def test_malicious_paths_are_refused(path: str) -> None:
    with pytest.raises(AmbiguousPath):
        readings(path.encode())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/\xc3\xbc", (b"/\xc3\xbc",)),
        (b"/\xfc\xff\x80", (b"/\xfc\xff\x80",)),
        (b"/\xa0b", (b"/\xa0b",)),
        (b"/a%61\xa0\x85", (b"/aa\xa0\x85", b"/aa")),
        (b"/a%a0", (b"/a\xa0",)),
        (b"/a\xc0\xafb", (b"/a\xc0\xafb", b"/a/b")),
        (b"/a%c0%afb", (b"/a\xc0\xafb", b"/a/b")),
        (b"/\xe0\x81\xa1", (b"/\xe0\x81\xa1", b"/a")),
        (b"/\xf0\x80\x81\xa1", (b"/\xf0\x80\x81\xa1", b"/a")),
        (b"/\xf8\x80\x80\x81\xa1", (b"/\xf8\x80\x80\x81\xa1", b"/a")),
        (b"/\xfc\x80\x80\x80\x81\xa1", (b"/\xfc\x80\x80\x80\x81\xa1", b"/a")),
        (b"/%u00fc", (b"/%u00fc", b"/\xc3\xbc")),
    ],
)
def test_readings_of_other_bytes_than_ascii(path: bytes, expected: tuple[bytes, ...]) -> None:
    assert readings(path) == expected


@pytest.mark.parametrize("pattern", ["/ü/*", "/%c3%bc/*", "/\u00e4*/ü"])
@pytest.mark.parametrize("path", ["/ü/x", "/ä/ü"])
def test_a_pattern_in_utf_8_refuses_the_same_in_latin_1(pattern: str, path: str) -> None:
    condition = match(path=pattern)
    fits = condition.path_fits(path.encode())
    if fits:
        with pytest.raises(AmbiguousPath):
            condition.path_fits(path.encode("latin-1"))
    else:
        assert not condition.path_fits(path.encode("latin-1"))


def test_a_pattern_in_latin_1_refuses_the_same_in_utf_8() -> None:
    condition = match(path="/%fc*a*")
    assert condition.path_fits(b"/\xfcxa")
    assert condition.searches == 2
    with pytest.raises(AmbiguousPath):
        condition.path_fits("/üxa".encode())
    assert not condition.path_fits(b"/xa")
    assert not match(path="/€").path_fits(b"/\x80")


@pytest.mark.timeout(20)
def test_repeated_percent_encoding_costs_little() -> None:
    with pytest.raises(AmbiguousPath):
        readings(b"/" + b"%25" * 1 + b"25" * (MAX_PATH_BYTES // 2 - 4))


def test_a_path_has_a_maximum_length() -> None:
    assert readings(b"/" + b"a" * (MAX_PATH_BYTES - 1))
    with pytest.raises(PathTooLong) as refusal:
        readings(b"/" + b"a" * MAX_PATH_BYTES)
    assert (refusal.value.status, refusal.value.code) == (414, "path_too_long")


def test_all_readings_of_a_path_have_a_maximum_length_together() -> None:
    assert len(readings(b"/;x/" + b"a" * (MAX_PATH_BYTES // 2 - 4))) == 3
    with pytest.raises(PathTooLong, match="the 3 readings"):
        readings(b"/;x/" + b"a" * (MAX_PATH_BYTES // 2))


def test_a_path_with_two_slashes_at_the_beginning_has_a_smaller_maximum_length() -> None:
    assert len(readings(b"//x/" + b"a" * 1020)) == 3
    for path in (b"//x/" + b"a" * 1021, b"/%2Fx/" + b"a" * 1021):
        with pytest.raises(PathTooLong, match="two slashes"):
            readings(path)


@given(st.binary(max_size=40))
def test_readings_never_fail_otherwise(path: bytes) -> None:
    try:
        found = readings(b"/" + path)
    except AmbiguousPath:
        return
    assert all(b"/./" not in reading and b"/../" not in reading for reading in found)
    assert any(b"//" not in reading for reading in found)


def test_methods_in_any_case() -> None:
    get = match(method=["get", "HEAD"])
    assert get.rest_fits(b"GET", b"", fields())
    assert get.rest_fits(b"HEAD", b"", fields())
    assert not get.rest_fits(b"POST", b"", fields())
    assert match(method="post").rest_fits(b"POST", b"", fields())


@pytest.mark.parametrize(
    ("condition", "lines", "fits"),
    [
        ({"X-A": "v"}, ["x-a: v"], True),
        ({"x-a": "v"}, ["X-A: V"], False),
        ({"x-a": "v"}, ["X-A: vv"], False),
        ({"x-a": "v"}, [], False),
        ({"x-a": "*"}, ["X-A:"], True),
        ({"x-a": "*"}, ["X-AB: v"], False),
        ({"x-a": "v*"}, ["X-A: value"], True),
        ({"x-a": "v*"}, ["X-A: a v"], False),
        ({"x-a": ["u", "v"]}, ["X-A: v"], True),
        ({"x-a": "v"}, ["X-A: u", "X-A: v"], True),
        ({"x-a": "u", "x-b": "v"}, ["X-A: u"], False),
        ({"x-a": "u", "x-b": "v"}, ["X-B: v", "X-A: u"], True),
        ({"Host": "App.example"}, [], True),
        ({"Upgrade": "websocket"}, ["Connection: upgrade", "Upgrade: websocket"], True),
        ({"Upgrade": "*"}, [], False),
        ({"x-a": "ü"}, ["X-A: Ã¼"], True),
    ],
)
def test_fields(condition: dict[str, Any], lines: list[str], fits: bool) -> None:
    assert match(headers=condition).rest_fits(b"GET", b"", fields(*lines)) is fits


def test_many_fields_are_read_as_well() -> None:
    long = fields("X-A: v", "X-B: " + "x" * 5000)
    assert values_of(b"x-a", long) == [b"v"]
    assert values_of(b"x-c", long) == ()


VALUES = st.text("ab*", max_size=3)


@given(st.lists(VALUES, max_size=6), st.lists(VALUES, min_size=1, max_size=4))
def test_one_value_of_a_field_is_enough(values: list[str], patterns: list[str]) -> None:
    def fits(value: str, pattern: str) -> bool:
        return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern

    lines = fields(*(f"X: {value}" for value in values))
    assert match(headers={"x": patterns}).rest_fits(b"GET", b"/", lines) is any(
        fits(value, pattern) for value in values for pattern in patterns
    )


def test_an_ambiguous_query_is_refused_only_if_it_decides() -> None:
    several = match(query={"a": "1", "b": "2"})
    assert not several.rest_fits(b"GET", b"/?A=1&b=3", fields())
    with pytest.raises(AmbiguousQuery) as refusal:
        several.rest_fits(b"GET", b"/?A=1&b=2", fields())
    assert (refusal.value.status, refusal.value.code) == (400, "ambiguous_query")
    assert not match(method="PUT", query={"a": "1"}).rest_fits(b"GET", b"/?A=1", fields())
    assert match(path="/a").rest_fits(b"GET", b"/?" + b"&" * 20_000, fields())


def test_all_conditions_hold_at_once() -> None:
    both = match(path="/a", method="GET", headers={"x": "y"}, query={"q": "1"})
    assert both.path_fits(b"/a")
    assert both.rest_fits(b"GET", b"/?q=1", fields("X: y"))
    assert not both.rest_fits(b"PUT", b"/?q=1", fields("X: y"))
    assert not both.rest_fits(b"GET", b"/?q=2", fields("X: y"))
    assert not both.rest_fits(b"GET", b"/?q=1", fields("X: z"))
    assert both.by_path and not both.everything
    assert match(path="*").everything and match().everything
    assert not match(method="GET").everything and not match(method="GET").by_path


@pytest.mark.parametrize(
    "path", ["admin", "/a?b", "/a//b", "/a/../b", "/./a", "/a%2Fb", "/a#b", "/a;b", "/a\\b"]
)
def test_patterns_that_match_no_request_are_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        match(path=path)


@pytest.mark.parametrize(
    "name", ["Connection", "X-Forwarded-For", "content-length", "a b", "X-Real-IP"]
)
def test_conditions_on_headers_of_the_connection_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        match(headers={name: "x"})


def test_header_names_are_compared_as_in_cgi() -> None:
    """CGI and WSGI read X_Debug as X-Debug (RFC 3875 s4.1.18)."""
    for written in ("X-Debug", "x_debug"):
        condition = match(headers={written: ["*"]})
        assert condition.rest_fits(b"GET", b"", fields("X_Debug: 1"))
        assert condition.rest_fits(b"GET", b"", fields("x-DEBUG: 1"))
        assert condition.rest_fits(b"GET", b"", fields("X+Debug: 1"))
    assert values_of(b"x-debug", fields("X_Debug: 1", "X-Debug: 2")) == [b"1", b"2"]
