"""Tests of zerotrust.routing.route_table."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.http.head import parse_request
from zerotrust.model.service import RouteMatch
from zerotrust.routing.match import AmbiguousPath, Match
from zerotrust.routing.route_table import RouteTable


def table(*routes: tuple[str, dict[str, Any]]) -> RouteTable[str]:
    return RouteTable(
        [(Match(RouteMatch.model_validate(condition)), name) for name, condition in routes],
        default="nothing",
    )


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


@pytest.mark.parametrize("target", SPELLINGS)
def test_a_protected_path_is_not_dodged(target: str) -> None:
    routes = table(("protected", {"path": "/admin/*"}), ("open", {}))
    try:
        assert look_up(routes, target) == "protected"
    except AmbiguousPath as refusal:
        assert refusal.status == 400


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
    from urllib.parse import unquote

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


@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_paths_that_pass_read_the_same_for_every_backend(pieces: list[str]) -> None:
    """No backend that resolves less takes an open path for a protected one either."""
    from urllib.parse import unquote

    target = "/" + "".join(pieces)
    routes = table(("open", {"path": "/public/*"}), ("protected", {}))
    try:
        found = look_up(routes, target)
    except AmbiguousPath:
        return
    for path in (unquote(target), resolved(target)):
        assert (found == "open") is (path == "/public" or path.startswith("/public/"))


@given(
    st.binary(max_size=30).map(lambda raw: bytes(b for b in raw if 0x20 < b < 0x7F and b != 0x23))
)
def test_no_target_breaks_the_lookup(target: bytes) -> None:
    routes = table(
        ("admin", {"path": "/admin/*", "query": {"a": "b"}}), ("rest", {"method": "GET"})
    )
    try:
        assert look_up(routes, "/" + target.decode()) in ("admin", "rest")
    except AmbiguousPath:
        return
