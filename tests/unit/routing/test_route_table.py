"""Tests of zerotrust.routing.route_table."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerotrust.http.head import RequestFields, parse_request
from zerotrust.model.service import RouteMatch
from zerotrust.routing.match import AmbiguousPath, Match
from zerotrust.routing.percent_encoding import decode_overlong, decode_wide
from zerotrust.routing.query import AmbiguousQuery
from zerotrust.routing.route_table import RouteTable


def table(*routes: tuple[str, dict[str, Any]]) -> RouteTable[str]:
    return RouteTable(
        [(Match(RouteMatch.model_validate(condition)), name) for name, condition in routes],
        default="nothing",
    )


def fields() -> RequestFields:
    return parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").fields


def look_up(routes: RouteTable[str], target: str, *lines: str, method: str = "GET") -> str:
    raw = (
        f"{method} {target} HTTP/1.1\r\nHost: a\r\n"
        + "".join(f"{line}\r\n" for line in lines)
        + "\r\n"
    )
    head = parse_request(raw.encode())
    return routes.lookup(head.method, head.target, head.fields)


def test_without_routes_every_request_gets_the_default() -> None:
    assert look_up(table(), "/x/../y%00") == "nothing"


def test_the_first_match_wins() -> None:
    routes = table(
        ("get", {"path": "/api/*", "method": "GET"}),
        ("beta", {"path": "/api/*", "headers": {"x-beta": "*"}}),
        ("debug", {"query": {"debug": "1"}}),
        ("api", {"path": "/api/*"}),
    )
    assert look_up(routes, "/api/x", "X-Beta: 1") == "get"
    assert look_up(routes, "/api/x", "X-Beta: 1", method="PUT") == "beta"
    assert look_up(routes, "/api/x?debug=1", method="PUT") == "debug"
    assert look_up(routes, "/api?x", method="PUT") == "api"
    assert look_up(routes, "/other") == "nothing"
    assert routes.choices == ("get", "beta", "debug", "api", "nothing")


def test_methods_in_any_case() -> None:
    routes = table(("read", {"method": ["get", "HEAD"]}))
    assert [look_up(routes, "/", method=method) for method in ("Get", "head", "PUT")] == [
        "read",
        "read",
        "nothing",
    ]


def test_routes_after_one_for_everything_are_never_reached() -> None:
    routes = table(("a", {"path": "/a"}), ("all", {"path": "/*"}), ("b", {"path": "/b"}))
    assert look_up(routes, "/b") == "all"
    assert routes.choices == ("a", "all")


def test_without_path_conditions_every_path_passes() -> None:
    routes = table(("get", {"method": "GET"}))
    assert look_up(routes, "/x/../y") == "get"
    assert look_up(routes, "*", method="OPTIONS") == "nothing"


def test_a_path_passes_if_its_readings_match_the_same_route() -> None:
    routes = table(("api", {"path": "/api/*"}), ("all", {}))
    assert look_up(routes, "/api/v4/projects/group%2Fproject") == "api"
    assert look_up(routes, "/x//y;z=1") == "all"
    assert look_up(routes, "/%61pi/x") == "api"


SPELLINGS = [
    "/./admin",
    "//admin",
    "/%61dmin",
    "/admin%2f",
    "/admin%2Fx",
    "/admin;x",
    "/admin;x/y",
    "/x/../admin",
]
SPELLINGS += [
    "/x/%2e%2e/admin",
    "/admin/.",
    "/admin//",
    "/admin/x/..",
    "/%2561dmin",
    "/admin\\x",
    "/admin%5cx",
]
SPELLINGS += [
    "/..;/admin",
    "/x/..%2fadmin",
    "/admin%00",
    "/%2f/admin",
    "/;/admin",
    "/%2e/admin",
    "/adm%69n?x",
    "/admin%20/../x",
]
# Node, Python and PHP read a host name after two slashes or backslashes.
SPELLINGS += [
    "//foo/admin",
    "//foo/admin/x?y",
    "///foo/admin",
    "/\\foo/admin",
    "/\\foo\\admin",
    "/%2ffoo/admin",
    "/%255c%5cfoo/admin/x",
    "//foo;/admin",
    "//foo/admin;/x",
    "//foo/admin%3Fx",
    "//foo/%2561dmin",
    "//foo%2Fbar/admin",
    "//foo/%u0061dmin",
]
# Windows removes dots and spaces at the end of a segment.
SPELLINGS += ["/admin./x", "/admin%20/x", "/admin.", "/admin%2520.%20", "/admin.%20;y/x"]


@pytest.mark.parametrize("target", SPELLINGS)
def test_a_protected_path_is_not_dodged(target: str) -> None:
    routes = table(("protected", {"path": "/admin/*"}), ("open", {}))
    try:
        assert look_up(routes, target) == "protected"
    except AmbiguousPath as refusal:
        assert refusal.status == 400


@pytest.mark.parametrize("target", ["/admin;/x", "/adm%69n%3b/x", "//foo/admin;/x", "/admin."])
def test_a_protected_page_is_not_dodged(target: str) -> None:
    """Some backends end a path at its first semicolon."""
    with pytest.raises(AmbiguousPath):
        look_up(table(("protected", {"path": "/admin"}), ("open", {})), target)


@pytest.mark.parametrize("ending", [b"\xa0", b"\x85", b"\xa0\x85"])
def test_a_blank_of_latin_1_at_the_end_of_a_target(ending: bytes) -> None:
    """The server of Python's standard library splits the request line at these bytes."""
    page = table(("protected", {"path": "/admin"}), ("open", {}))
    query = table(("protected", {"query": {"admin": "1"}}), ("open", {}))
    with pytest.raises(AmbiguousPath):
        page.lookup(b"GET", b"/admin" + ending, fields())
    with pytest.raises(AmbiguousQuery):
        query.lookup(b"GET", b"/?admin=1" + ending, fields())
    with pytest.raises(AmbiguousQuery):
        query.lookup(b"GET", b"/x%3Fadmin=1" + ending, fields())
    assert page.lookup(b"GET", "/voilà".encode(), fields()) == "open"
    assert query.lookup(b"GET", "/?q=voilà".encode(), fields()) == "open"


@pytest.mark.parametrize(
    "target", ["//x", "//x/y", "/x//y", "/x./y", "/x.", "/a%20b%20/c", "/x;v=1/y", "/R&D/x?y=1"]
)
def test_odd_paths_pass_if_they_lead_to_the_same_route(target: str) -> None:
    routes = table(
        ("page", {"path": "/admin"}), ("below", {"path": "/api/*"}), ("a", {"query": {"a": "1"}})
    )
    assert look_up(routes, target) == "nothing"


@pytest.mark.parametrize(
    "target", ["/public/../x", "/public%2fx", "/public;x/y", "//public/x", "/public/%2e%2e/x"]
)
def test_an_open_path_does_not_lead_to_a_protected_one(target: str) -> None:
    routes = table(("open", {"path": "/public/*"}), ("protected", {}))
    with pytest.raises(AmbiguousPath):
        look_up(routes, target)


def test_letters_are_case_sensitive() -> None:
    assert look_up(table(("protected", {"path": "/admin/*"}), ("open", {})), "/ADMIN") == "open"


def resolved(path: str) -> str:
    """Return a path as a thorough backend resolves it (RFC 3986 s5.2.4)."""
    for _ in range(6):
        path = unquote(path)
    kept: list[str] = []
    for segment in path.replace("\\", "/").split("/"):
        segment = segment.partition(";")[0]
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept)


PIECES = [
    "admin",
    "adm",
    "in",
    "public",
    "x",
    "/",
    "//",
    ".",
    "..",
    "/../",
    "/./",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "\\",
]
PIECES += [";", ";a=b", "%61", "%2561", "%25", "%252f", "%252e", "%3b", "..;"]


@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_no_spelling_dodges_a_protected_path(pieces: list[str]) -> None:
    target = "/" + "".join(pieces)
    routes = table(("protected", {"path": "/admin/*"}), ("open", {}))
    try:
        found = look_up(routes, target)
    except AmbiguousPath:
        return
    meant = resolved(target)
    assert (found == "protected") is (meant == "/admin" or meant.startswith("/admin/"))


@given(st.lists(st.sampled_from([*PIECES, "/", "%20", "."]), max_size=8))
@example(["/x", "/admin"])
@example(["\\x", "/admin", ";", "/x"])
@example(["admin", "."])
def test_backends_that_read_a_target_as_a_url_get_the_same_route(pieces: list[str]) -> None:
    target = "/" + "".join(pieces)
    decoded = [target, unquote(target), unquote(unquote(target))]
    paths = {re.sub(r"\A[/\\]{2,}[^/\\]*", "", path) or "/" for path in decoded}
    paths |= {path.partition(";")[0] for path in paths}
    paths |= {re.sub(r"[. ]+(?=/|\Z)", "", path) or "/" for path in map(resolved, paths)}
    for place in ("/admin", "/public"):
        routes = table(("named", {"path": f"{place}/*"}), ("other", {}))
        try:
            found = look_up(routes, target)
        except AmbiguousPath:
            continue
        for path in map(resolved, paths):
            assert (found == "named") is (path == place or path.startswith(place + "/")), path


@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_paths_that_pass_read_the_same_for_every_backend(pieces: list[str]) -> None:
    """No backend that resolves less takes an open path for a protected one either."""
    target = "/" + "".join(pieces)
    routes = table(("open", {"path": "/public/*"}), ("protected", {}))
    try:
        found = look_up(routes, target)
    except AmbiguousPath:
        return
    for path in (unquote(target), resolved(target)):
        assert (found == "open") is (path == "/public" or path.startswith("/public/"))


CODES = ["%u0061", "%u002f", "%u002E", "%u003b", "%25u0061", "%c1%a1", "%c0%af", "%C0%ae"]
CODES += ["%e0%80%af", "%25c0%25af", "\udcc0\udcaf", "\udcc1\udca1", "%u00%32f", "%c0%a5u0061"]


def decoded_by(decode: Callable[[bytes], bytes], path: bytes) -> bytes:
    for _ in range(6):
        path = decode(path)
    return path


@given(st.lists(st.sampled_from([*PIECES, *CODES]), max_size=8))
@example(["%u0061dmin"])
@example(["\udcc1\udca1", "dmin"])
@example(["public", "%c0%af", ".", "%u002e"])
def test_servers_that_decode_other_codes_get_the_same_route(pieces: list[str]) -> None:
    target = ("/" + "".join(pieces)).encode("utf-8", "surrogateescape")
    backends = [
        resolved(decoded_by(decode, target).decode("latin-1"))
        for decode in (
            decode_wide,
            decode_overlong,
            lambda path: decode_wide(decode_overlong(path)),
        )
    ]
    for place in ("/admin", "/public"):
        routes = table(("named", {"path": f"{place}/*"}), ("other", {}))
        try:
            found = routes.lookup(b"GET", target, fields())
        except AmbiguousPath:
            continue
        for path in backends:
            assert (found == "named") is (path == place or path.startswith(place + "/"))


@pytest.mark.parametrize("target", ["/a%u0062", "/%c0%af", "/x/%u00fc", "/x%c0%afy"])
def test_other_codes_pass_if_they_lead_to_the_same_route(target: str) -> None:
    assert look_up(table(("admin", {"path": "/admin/*"}), ("open", {})), target) == "open"


def test_other_bytes_than_ascii() -> None:
    """Browsers send UTF-8. A backend might read Latin-1 as the same name, so that is refused."""
    routes = table(("protected", {"path": "/café/*"}), ("open", {}))
    for target in ("/caf%c3%a9/x", "/caf%C3%A9", "/café/x"):
        assert look_up(routes, target) == "protected"
    for raw in (b"/caf%e9/x", b"/caf\xe9"):
        with pytest.raises(AmbiguousPath):
            routes.lookup(b"GET", raw, fields())
    assert look_up(routes, "/cafe") == look_up(routes, "/ü") == "open"


@given(
    st.binary(max_size=30).map(lambda raw: bytes(b for b in raw if b > 0x20 and b not in b"#\x7f"))
)
def test_no_target_breaks_the_lookup(target: bytes) -> None:
    routes = table(
        ("admin", {"path": "/admin/*", "query": {"a": "b"}}),
        ("query", {"query": {"a": "*"}}),
        ("rest", {"method": "GET"}),
    )
    try:
        assert routes.lookup(b"GET", b"/" + target, fields()) in ("admin", "query", "rest")
    except (AmbiguousPath, AmbiguousQuery):
        return


def test_a_query_chooses_the_route_that_every_backend_reads() -> None:
    routes = table(("debug", {"query": {"debug": "1"}}), ("open", {}))
    assert look_up(routes, "/?x=1&debug=1") == "debug"
    assert look_up(routes, "/?x=1&Debug=0;y") == "open"
    for query in ("Debug=1", "debug[]=1", "x;debug=1", "debug=1&debug=2", "%u0064ebug=1"):
        with pytest.raises(AmbiguousQuery):
            look_up(routes, f"/?{query}")
