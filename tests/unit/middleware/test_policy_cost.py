"""Tests of zerotrust.middleware.policy_cost."""

from typing import Any

import pytest

from zerotrust.middleware.policy_cost import cost_error
from zerotrust.model.policy import ServicePolicy

JWT = {"type": "jwt", "config": {"algorithm": "HS256", "secret": "s" * 32}}
REWRITE = {"type": "rewrite", "config": {"strip_prefix": "/a"}}
CORS = {"origins": ["https://*.app.example"]}


def place(values: dict[str, Any]) -> tuple[str | int, ...] | None:
    found = cost_error(ServicePolicy.from_json(values))
    return found and found[0]


def test_a_policy_with_two_hundred_routes_is_accepted() -> None:
    common = [
        {"type": "headers", "config": {"request": {"set": {f"X-{i}": "y" for i in range(20)}}}},
        {"type": "rate_limit", "config": {"rate": "10/s", "key": "header:X-Key"}},
        {"type": "ip_deny", "config": {"denied_ips": ["203.0.113.0/24"]}},
        {"type": "cors", "config": CORS},
    ]
    routes = [
        {
            "match": {
                "path": f"/api/*/part-{i}/*",
                "method": ["GET", "PUT"],
                "headers": {"X-Beta": "1"},
            },
            "handle": [JWT, REWRITE]
            if i < 2
            else [{"type": "headers", "config": {"response": {"delete": ["Server"]}}}],
        }
        for i in range(100)
    ]
    routes += [{"match": {"path": f"/part-{i}/*"}} for i in range(100)]
    assert place({"global_middleware": common, "routes": routes}) is None
    assert place({"routes": [{"match": {"path": f"/{i}/*/x/*"}} for i in range(200)]}) is None
    assert (
        place(
            {"routes": [{"match": {"path": f"/{i}/*", "query": {"a": "b"}}} for i in range(1000)]}
        )
        is None
    )


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"routes": [{"match": {"path": "/" + "*a" * 180 + "*"}}] * 2}, ("routes",)),
        ({"routes": [{"match": {"query": {"a": "b", "c": "d"}}}] * 1000}, ("routes",)),
        ({"routes": [{"match": {"headers": {"a": [str(i) for i in range(3000)]}}}]}, ("routes",)),
        ({"routes": [{}, {"handle": [JWT] * 5}, {"handle": [JWT]}]}, ("routes", 1, "handle")),
        ({"global_middleware": [REWRITE] * 8}, ("global_middleware",)),
        ({"global_middleware": [JWT] * 4, "security": {"auth": JWT}}, ("global_middleware",)),
        (
            {
                "global_middleware": [{"type": "cors", "config": CORS}] * 64,
                "security": {"auth": JWT},
            },
            ("global_middleware",),
        ),
        (
            {
                "security": {"auth": JWT, "cors": CORS},
                "routes": [{"handle": [REWRITE] * 2}],
                "global_middleware": [{"type": "cors", "config": CORS}] * 40,
            },
            ("global_middleware",),
        ),
    ],
)
def test_a_costly_policy_is_refused_with_its_place(
    values: dict[str, Any], where: tuple[str | int, ...]
) -> None:
    assert place(values) == where


def test_the_message_has_the_figures_and_the_fix() -> None:
    found = cost_error(
        ServicePolicy.from_json({"global_middleware": [REWRITE], "routes": [{"handle": [JWT] * 5}]})
    )
    assert found is not None
    assert found[1] == (
        "the policy may take 3.4 ms of server time per request, 3.0 ms of it here; "
        "at most 2.5 ms are allowed: remove handlers, jwt and rewrite first"
    )


def test_patterns_of_tokens_cost_time_and_names_do_not() -> None:
    """One pattern of 64 characters takes 30 µs of a name that nearly fits."""

    def require(**keys: list[str]) -> dict[str, Any]:
        return {"access": {"require": [keys]}}

    nearly = ["*" + "a" * 62 + "b"]
    assert place(require(machine=nearly * 50)) is None
    assert place(require(machine=nearly * 100)) == ("access", "require")
    assert place(require(app=nearly * 100)) == ("access", "require")
    assert place(require(machine=[f"machine-{number}" for number in range(256)])) is None
    handler = {"type": "access", "config": require(app=nearly * 100)["access"]}
    assert place({"routes": [{"handle": [handler]}]}) == ("routes", 0, "handle")
