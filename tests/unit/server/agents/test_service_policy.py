"""Tests of zerotrust.server.agents.service_policy."""

from typing import Any

import pytest

from tests.unit.middleware.policy_runner import SECRET, request
from zerotrust.errors import ConfigError
from zerotrust.http.client_pace import ClientLimits
from zerotrust.http.head import parse_request
from zerotrust.middleware.header_edits import delete_field, set_field
from zerotrust.middleware.interface import Answer, Request
from zerotrust.middleware.request_limits import UNLIMITED
from zerotrust.server.agents.service_policy import (
    CompiledPolicy,
    WebSocketSettings,
    compile_service_policy,
    passed_head,
)

LIMIT = {"type": "rate_limit", "config": {"rate": "1/hour"}}


def guard(
    told: dict[str, Any] | None, before: CompiledPolicy | None = None
) -> CompiledPolicy | None:
    return compile_service_policy(told, secret=SECRET, before=before)


def made(told: dict[str, Any], before: CompiledPolicy | None = None) -> CompiledPolicy:
    found = guard(told, before)
    assert found is not None
    return found


def code(found: CompiledPolicy, *fields: str, **asked: Any) -> str | None:
    """Return the error code that the policy answers; None if the request passes."""
    question = request(*fields, **asked)
    head = parse_request(
        f"{question.method.decode()} {question.target.decode()} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    )
    said = found.chain(head).run(question, 0.0)
    return said.code if isinstance(said, Answer) else None


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"routes": [{}]},
        {"routes": [{"match": {"path": "/*"}, "handle": [{"type": "reverse_proxy"}]}]},
        {"security": {}},
        {"global_middleware": [{"type": "reverse_proxy"}]},
    ],
)
def test_what_lets_everything_pass_costs_nothing(told: dict[str, Any] | None) -> None:
    assert guard(told) is None


def test_a_route_for_some_paths_is_a_guard() -> None:
    found = made({"routes": [{"match": {"path": "/api/*"}}]})
    assert code(found, target="/api/x") is None
    assert code(found, target="/admin") == "no_route"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"quota": 1}, "quota"),
        ({"routes": [{"match": {"country": "x"}}]}, "country"),
        (
            {"security": {"auth": {"type": "basic_auth", "config": {"users_file": "/etc/passwd"}}}},
            "not read",
        ),
        (
            {
                "security": {
                    "auth": {"type": "jwt", "config": {"algorithm": "HS256", "secret_file": "x"}}
                }
            },
            "not read",
        ),
        (
            {"global_middleware": [{"type": "jwt", "config": {"algorithm": "RS256", "key": "no"}}]},
            "PEM",
        ),
    ],
)
def test_what_cannot_be_enforced_is_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        guard(told)


def test_a_policy_that_costs_too_much_is_refused_with_the_figure() -> None:
    routes = [{"match": {"path": f"/*ab*cd{i}*"}} for i in range(1000)]
    with pytest.raises(
        ConfigError,
        match=r"routes: the policy may take 17.0 ms .* 2.5 ms are allowed: remove routes",
    ):
        guard({"routes": routes})
    with pytest.raises(ConfigError, match=r"routes.0.handle: the policy may take 36.0 ms"):
        guard(
            {
                "routes": [
                    {
                        "handle": (
                            [{"type": "jwt", "config": {"algorithm": "HS256", "secret": "s" * 32}}]
                            * 60
                        )
                    }
                ]
            }
        )


def test_counts_outlive_a_new_policy() -> None:
    first = made({"global_middleware": [LIMIT]})
    assert code(first) is None
    second = made({"global_middleware": [LIMIT], "routes": [{}]}, first)
    assert code(second) == "rate_limited"
    assert code(made({"global_middleware": [LIMIT]})) is None


def test_limits_stand_behind_the_handlers_of_each_route() -> None:
    deny = {"type": "ip_deny", "config": {"denied_ips": ["203.0.113.9"]}}
    routes = [{"match": {"path": "/closed"}, "handle": [deny]}, {"match": {"path": "/open"}}]
    found = made({"routes": routes, "max_request_body": "1KB", "max_websockets": 1})
    big = "Content-Length: 1001"
    assert found.max_body == 1000
    assert found.upgrades is not None
    assert code(found, big, target="/open") == "body_too_large"
    assert code(found, big, target="/closed") == "ip_refused"
    assert code(found, big, target="/") == "no_route"
    assert made({"max_websockets_per_client": 1}).max_body == UNLIMITED
    assert code(made({"max_request_body": "1KB"}), big) == "body_too_large"


def test_sockets_are_counted_on() -> None:
    class Socket:
        done = False

    first = made({"max_websockets": 1})
    assert first.upgrades is not None
    first.upgrades.opened(b"192.0.2.1", Socket())
    second = made({"max_websockets": 1, "max_request_body": "1MB"}, first)
    assert code(second, "Connection: Upgrade", "Upgrade: websocket") == "websocket_limit"


def test_the_head_that_the_backend_sees() -> None:
    head = parse_request(b"GET /api/x HTTP/1.1\r\nHost: a\r\nCookie: c\r\nX_User: forged\r\n\r\n")
    passed = request("Cookie: c", "X_User: forged")
    passed.target = b"/x"
    assert passed_head(head, passed).fields is head.fields
    passed.edits += [set_field("X-User", ["me"]), delete_field("Cookie")]
    seen = passed_head(head, passed)
    assert (seen.method, seen.target, seen.fields.lines) == (b"GET", b"/x", b"X-User: me\r\n")
    assert seen.fields.host_field == b"a"
    assert b"Cookie" in head.fields.lines


SIGNED_IN = {"access": {"require": [{"signed_in": True}]}}
HANDLER = {"type": "access", "config": {"require": [{"group": "ops"}]}}


@pytest.mark.parametrize(
    "told", [SIGNED_IN, {"routes": [{"handle": [HANDLER]}]}, {"global_middleware": [HANDLER]}]
)
def test_a_server_without_sign_in_refuses_a_service_that_requires_it(told: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="requires sign-in, and this server has none"):
        guard(told)
    found = compile_service_policy(told, secret=SECRET, before=None, signs_in=True)
    assert found is not None
    assert code(found) == "login_required"


def test_conditions_that_need_no_sign_in_are_enforced_everywhere() -> None:
    found = made({"access": {"require": [{"ip": "10.0.0.0/8"}]}})
    assert code(found) == "access_denied"
    assert code(found, client="10.0.0.1") is None


def test_countries_need_a_database() -> None:
    told = {"access": {"require": [{"country": "DE"}]}}
    with pytest.raises(ConfigError, match="needs access"):
        guard(told)
    found = compile_service_policy(
        told, secret=SECRET, before=None, country_of={"203.0.113.9": "DE"}.get
    )
    assert found is not None
    assert code(found) is None
    assert code(found, client="203.0.113.10") == "access_denied"


def test_what_a_backend_is_told_is_kept_with_the_policy() -> None:
    found = made({"access": {"identity": {"headers": "remote_user"}}})
    assert found.access is not None
    assert found.access.identity.headers == "remote_user"
    assert code(found) is None
    assert made({"max_websockets": 1}).access is None


def test_unknown_keys_of_access_are_refused() -> None:
    with pytest.raises(ConfigError, match="access"):
        guard({"access": {"require": [{"signed_in": True, "later": 1}]}})
    with pytest.raises(ConfigError, match="access"):
        guard({"access": {"later": 1}})


def test_conditions_cost_time() -> None:
    many = [{"group": "a", "path": f"/{number}*x*y*z/*"} for number in range(64)]
    with pytest.raises(ConfigError, match="the policy may take"):
        guard({"access": {"require": many}})
    with pytest.raises(ConfigError, match="the policy may take"):
        guard({"routes": [{"handle": [{"type": "access", "config": {"require": many}}] * 2}]})


UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


def test_limits_of_websockets() -> None:
    found = made(
        {
            "websocket_limits": {
                "max_message": "1KiB",
                "messages": "60/minute",
                "bytes": "10KB/s",
                "ping": 30,
            }
        }
    )
    assert found.websocket == WebSocketSettings(ClientLimits(1024, 1.0, 60, 10_000.0), 30.0)
    assert found.handshakes is None
    assert code(found, *UPGRADE) is None
    assert made({"websocket_limits": {"ping": 30}}).websocket == WebSocketSettings(None, 30.0)
    burst = made({"websocket_limits": {"messages": "60/minute", "burst": 5}}).websocket
    assert burst == WebSocketSettings(ClientLimits(messages=1.0, burst=5), 0.0)
    assert guard({"websocket_limits": {}}) is None


def test_timeouts_of_upgraded_connections() -> None:
    asked = {"websocket_idle_timeout": "10m", "websocket_max_duration": 3600}
    found = made(asked).websocket
    assert found == WebSocketSettings(idle_timeout=600.0, max_duration=3600.0)
    assert found.has_timeouts
    assert not WebSocketSettings(ping=30.0).has_timeouts
    assert guard({"websocket_idle_timeout": 0}) is None
    with pytest.raises(ConfigError, match="websocket_max_duration"):
        guard({"websocket_max_duration": -1})


@pytest.mark.parametrize(
    ("origins", "asked", "said"),
    [
        ("same", "https://app.example.com", None),
        ("same", "https://other.example.com", "origin_refused"),
        (["https://other.example.com"], "https://other.example.com", None),
        (["https://other.example.com"], "https://app.example.com", None),
    ],
)
def test_origins_of_websockets(origins: object, asked: str, said: str | None) -> None:
    found = made({"websocket_limits": {"origins": origins}})
    assert found.websocket is None
    assert code(found, *UPGRADE, f"Origin: {asked}") == said


def test_a_new_policy_keeps_the_count_of_handshakes() -> None:
    told = {"websocket_limits": {"handshakes": "1/h"}}
    found = made(told)
    assert [code(found, *UPGRADE) for _ in range(2)] == [None, "rate_limited"]
    assert code(made({**told, "max_websockets": 9}, found), *UPGRADE) == "rate_limited"
    assert code(made({"websocket_limits": {"handshakes": "2/h"}}, found), *UPGRADE) is None


def test_workers_share_the_limits() -> None:
    asked = {
        "max_websockets": 10,
        "max_websockets_per_client": 1,
        "websocket_limits": {"handshakes": "8/s"},
        "traffic_shaping": {"download_limit": "4MB/s"},
    }
    alone, shared = (
        compile_service_policy(asked, secret=SECRET, before=None, workers=workers)
        for workers in (1, 4)
    )
    assert alone is not None and shared is not None
    assert alone.handshakes is not None and shared.handshakes is not None
    assert shared.handshakes.cells.interval == 4 * alone.handshakes.cells.interval
    assert shared.upgrades is not None
    head = parse_request(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    for number in range(3):
        asking = Request(head, client=b"203.0.113.%d" % number, unix_time=0.0)
        assert shared.upgrades.request(asking, 0.0) is None
        shared.upgrades.opened(asking.client, Open())
        assert shared.upgrades.request(asking, 0.0) is not None, "one of each client"
    other = Request(head, client=b"203.0.113.9", unix_time=0.0)
    assert shared.upgrades.request(other, 0.0) is not None, "a quarter of ten, rounded up"


class Open:
    done = False
