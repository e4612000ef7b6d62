"""Tests of zerotrust.config.path_spellings."""

from pathlib import Path

import pytest

from zerotrust.config.load import check, load_agent

FILE = """agent_id: a
server: {{address: "h:1", server_name: h, ca_cert: ca.crt, cert: a.crt, key: a.key}}
{front}
services:
  - hostname: a.example
    backend: "x:1"
    {security}
    routes:
{routes}
"""
AUTH = "{type: basic_auth, config: {users: {a: '$2b$04$UOWVny/ZgZaxJglVRyt8OOyKfkUYzR5lrLlNho5M3lk5lBYHrUiiC'}}}"
JWT = "{type: jwt, config: {algorithm: HS256, secret: a secret of at least thirty-two bytes}}"
LIMIT = "{type: rate_limit, config: {rate: 5/minute}}"
ALLOW = "{type: ip_allow, config: {allowed_ips: [10.0.0.0/8]}}"
DENY = "{type: ip_deny, config: {denied_ips: [192.0.2.1]}}"
REFUSE = "{type: respond, config: {status: 404}}"
GREET = "{type: respond, config: {body: hello}}"
MOVE = "{type: redirect, config: {location: /x}}"


def warnings(
    tmp_path: Path, *routes: tuple[str, str], security: str = "", front: str = ""
) -> list[str]:
    """Return the warnings about routes: conditions and handlers each."""
    rows = [f"      - {{match: {{{match}}}, handle: [{handlers}]}}" for match, handlers in routes]
    path = tmp_path / "agent.yaml"
    path.write_text(FILE.format(routes="\n".join(rows), security=security, front=front))
    found = check(path)
    assert [problem for problem in found if problem.severity == "error"] == []
    return [
        f"{problem.line}: {problem.key}: {problem.message}"
        for problem in found
        if "spellings" in problem.message
    ]


def test_the_warning_names_both_spellings_and_the_fix(tmp_path: Path) -> None:
    assert warnings(tmp_path, ("path: /admin", f"{AUTH}, {LIMIT}"), ("path: /*", "")) == [
        '9: services[0].routes[0].match.path: routes[1] takes "/admin/" without basic_auth,'
        " rate_limit, and many backends answer both spellings alike; write"
        ' "/admin/*" for both and all below, or a route for "/admin/" as well'
    ]
    (told,) = load_agent(tmp_path / "agent.yaml").warnings
    assert "spellings" in told.message


@pytest.mark.parametrize(
    "routes",
    [
        [("path: /admin/", AUTH), ("", "")],
        [("path: /a/*/edit", AUTH), ("", "")],
        [("path: '*.php'", AUTH), ("", "")],
        [("path: /%c3%bc", AUTH), ("", "")],
        [("path: /admin", JWT), ("path: /admin/*", LIMIT)],
        [("path: /admin", ALLOW), ("path: '*'", JWT)],
        [("path: /admin", DENY), ("", "")],
        [("path: /admin", REFUSE), ("", "")],
        [("path: /admin, method: [get]", AUTH), ("method: [GET, HEAD]", ""), ("", AUTH)],
        [("path: /admin", AUTH), ("method: GET", AUTH), ("", "")],
        [("path: /admin, query: {a: b}", AUTH), ("query: {a: b}", "")],
        [("path: /admin, headers: {x: y}", AUTH), ("headers: {x: y}", "")],
        [("path: /admin/x/", ""), ("path: /admin", AUTH), ("path: /admin/*", "")],
    ],
)
def test_the_other_spelling_has_fewer_protections(
    tmp_path: Path, routes: list[tuple[str, str]]
) -> None:
    assert len(warnings(tmp_path, *routes)) == 1


@pytest.mark.parametrize(
    "routes",
    [
        [("path: /admin/*", AUTH), ("", "")],
        [("path: /admin*", AUTH), ("", "")],
        [("path: /", AUTH), ("", "")],
        [("path: /*", AUTH)],
        [("path: /admin", AUTH)],
        [("path: /admin", ""), ("", "")],
        [("path: /admin", GREET), ("", "")],
        [("path: /admin", MOVE), ("", "")],
        [("path: /admin", AUTH), ("path: /admin/", AUTH), ("", "")],
        [("path: /admin", AUTH), ("path: /admin/", JWT), ("", "")],
        [("path: /admin", ALLOW), ("path: /admin/", DENY), ("", "")],
        [("path: /admin/", REFUSE), ("path: /admin", AUTH), ("", "")],
        [("path: /admin", AUTH), ("path: /admin/*", MOVE), ("", "")],
        [("path: /admin", AUTH), ("path: /admin/*", AUTH), ("", "")],
        [("path: /admin", AUTH), ("path: /x", ""), ("method: GET", "")],
        [("path: /a*", ""), ("path: /admin", AUTH), ("", "")],
        [("path: /admin, method: PUT", AUTH), ("method: GET", "")],
        [("path: /admin", AUTH), ("headers: {x: y}", ""), ("query: {x: y}", "")],
        [("path: /ü", AUTH), ("path: /%fc/", "")],
    ],
)
def test_no_other_spelling_is_less_protected(tmp_path: Path, routes: list[tuple[str, str]]) -> None:
    assert warnings(tmp_path, *routes) == []


def test_protections_for_all_routes_count(tmp_path: Path) -> None:
    routes = [("path: /admin", JWT), ("", "")]
    assert warnings(tmp_path, *routes, security=f"security: {{auth: {AUTH}}}") == []
    routes = [("path: /admin", LIMIT), ("", "")]
    assert warnings(tmp_path, *routes, front=f"global_middleware: [{LIMIT}]") == []
    assert len(warnings(tmp_path, *routes, front=f"global_middleware: [{ALLOW}]")) == 1
