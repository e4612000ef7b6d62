"""Tests of zerotrust.middleware.policy."""

from typing import Any

import pytest

from tests.unit.middleware.policy_runner import HANDLER, SECRET, forwarded, request, run
from zerotrust.errors import ConfigError
from zerotrust.middleware.policy import Policy, compile_policy
from zerotrust.model.service import Route, ServiceSecurity

LIMIT = {"type": "rate_limit", "config": {"rate": "1/minute"}}
CORS = {"origins": ["https://app.example"]}
JWT = {"type": "jwt", "config": {"algorithm": "HS256", "secret": "s" * 32}}


def compiled(
    *routes: dict[str, Any],
    everywhere: list[dict[str, Any]] | None = None,
    security: dict[str, Any] | None = None,
    before: Policy | None = None,
) -> Policy:
    return compile_policy(
        [Route.model_validate(route) for route in routes],
        secret=SECRET,
        global_middleware=[HANDLER.validate_python(handler) for handler in everywhere or []],
        security=None if security is None else ServiceSecurity.model_validate(security),
        before=before,
    )


def status(found: Policy, *lines: str, target: str = "/", method: str = "GET") -> int:
    answer = run(found, request(*lines, target=target, method=method))
    return 0 if answer is None else answer.status


def test_an_empty_policy_passes_every_request() -> None:
    found = compiled()
    assert found.table.default.handlers == ()
    assert status(found, target="/any/../thing") == 0


def test_a_request_without_a_matching_route_gets_404() -> None:
    found = compiled({"match": {"path": "/api/*"}})
    assert status(found, target="/api/x") == 0
    answer = run(found, request(target="/other"))
    assert answer is not None and (answer.status, answer.code) == (404, "no_route")


def test_global_handlers_run_first() -> None:
    found = compiled({"match": {"path": "/a"}}, {"match": {"path": "/b"}}, everywhere=[LIMIT])
    assert status(found, target="/a") == 0
    assert status(found, target="/b") == 429
    assert status(found, target="/none") == 429
    assert [status(compiled(everywhere=[LIMIT])), status(found)] == [0, 429]


def test_security_runs_before_the_routes() -> None:
    found = compiled(
        {"match": {"path": "/a", "method": "PUT"}}, security={"cors": CORS, "auth": JWT}
    )
    origin = "Origin: https://app.example"
    assert (
        status(found, origin, "Access-Control-Request-Method: PUT", target="/a", method="OPTIONS")
        == 204
    )
    assert status(found, target="/a", method="PUT") == 401
    assert status(found, target="/none") == 401
    refusal = run(found, request(origin, target="/a", method="PUT"))
    assert refusal is not None
    assert b"Access-Control-Allow-Origin: https://app.example\r\n" in refusal.lines


def test_routes_have_their_own_handlers() -> None:
    admin = {"type": "ip_whitelist", "config": {"allowed_ips": ["10.0.0.0/8"]}}
    set_a = {"type": "headers", "config": {"request": {"set": {"A": "1"}}}}
    found = compiled(
        {"match": {"path": "/admin/*"}, "handle": [admin]},
        {"handle": [{"type": "reverse_proxy"}, set_a]},
    )
    assert status(found, target="/admin/x") == 403
    asked = request(target="/x")
    assert run(found, asked) is None
    assert forwarded(asked) == b"A: 1\r\n"


def test_reverse_proxy_needs_no_handler() -> None:
    found = compiled({"handle": [{"type": "reverse_proxy"}]})
    assert found.table.default.handlers == ()
    assert found.made == ()


def test_the_same_handler_is_kept_with_what_it_remembers() -> None:
    first = compiled({"handle": [LIMIT]}, everywhere=[LIMIT])
    assert status(first) == 0
    second = compiled(
        {"match": {"path": "/new"}}, {"handle": [LIMIT]}, everywhere=[LIMIT], before=first
    )
    assert status(second) == 429
    assert [handler for _, handler in second.made] == [handler for _, handler in first.made]
    assert len({id(handler) for _, handler in second.made}) == 2
    changed = {"type": "rate_limit", "config": {"rate": "2/minute"}}
    third = compiled({"handle": [changed]}, before=second)
    assert status(third) == 0


def test_every_kind_can_be_built() -> None:
    from tests.unit.model.test_middleware import GOOD

    for kind, config in GOOD:
        if kind != "basic_auth":
            assert compiled(everywhere=[{"type": kind, "config": config}])


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        (
            {"security": {"auth": {"type": "jwt", "config": {"algorithm": "RS256", "key": "x"}}}},
            "security.auth: key is",
        ),
        (
            {"everywhere": [LIMIT, {"type": "basic_auth", "config": {"users_file": "x"}}]},
            "global_middleware[1]: users_file",
        ),
    ],
)
def test_an_error_names_its_place(keys: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(**keys)
    assert str(caught.value).startswith(place)


def test_the_place_of_a_route() -> None:
    handler = {"type": "jwt", "config": {"algorithm": "RS256", "jwks": {}}}
    with pytest.raises(ConfigError, match=r"^routes\[1\]\.handle\[1\]: not a JWKS"):
        compiled({"match": {"path": "/a"}}, {"handle": [LIMIT, handler]})
