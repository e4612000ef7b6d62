"""Tests of zerotrust.config.ineffective_keys."""

from typing import Any

import pytest

from zerotrust.config.diagnostics import dotted
from zerotrust.config.ineffective_keys import agent_effects, for_people, server_effects


def messages(**service: Any) -> list[tuple[str, str]]:
    found = agent_effects({"services": [{"hostname": "a", **service}]})
    return [(severity, dotted(path).removeprefix("services[0].")) for path, severity, _ in found]


@pytest.mark.parametrize(
    "service",
    [
        {},
        {"routes": [{"match": {"path": "*"}, "handle": [{"type": "reverse_proxy"}]}]},
        {"routes": [{"match": {"path": "/*"}}]},
        {"routes": [{"handle": [{"type": "reverse_proxy"}]}]},
        {"upstreams": [{"address": "x:1", "weight": 5}], "load_balancing": {"policy": "ip_hash"}},
        {
            "load_balancing": {
                "policy": "round_robin",
                "health_check_required": True,
                "session_affinity": True,
            }
        },
        {"upstreams": [{"address": "x:1", "health_check": None}]},
        {"timeout": "90s"},
        {
            "backend": "x",
            "protocol": "https",
            "tls": {"ca_file": "x", "min_version": "1.3", "server_name": "y"},
        },
        {
            "upstreams": [{"address": "x:1"}, {"address": "WSS://y:1"}],
            "tls": {"client_cert_file": "x", "ca_file": "y"},
        },
        {"tls": {"min_version": "1.2"}},
        {"tls": {"min_version": "TLSv1.2", "ca_file": "", "ciphers": []}},
        {"tls": {"min_version": "1.0"}},
        {
            "upstreams": [
                {"address": "x:1", "health_check": {"path": "/"}, "max_connections": 5},
                {"address": "y:1"},
            ]
        },
        {"load_balancing": {"timeout": "5s", "max_connections": 5, "keep_alive_timeout": "5s"}},
        {"listen_on": "both", "http_redirect": True},
        {"listen_on": "https"},
        {"listen_on": "http"},
        {"http_redirect": False},
        {"tls": {"client_auth": "none"}},
        {"tls": {"client_auth": False}},
        {"security": {}, "tls": None, "monitoring": {}, "traffic_shaping": {}},
        {"security": {"auth": None, "cors": None}},
        {"security": {"auth": {"type": "jwt", "config": {"key": "x"}}, "cors": {"origins": ["*"]}}},
        {
            "routes": [
                {
                    "match": {"path": "/api"},
                    "handle": [{"type": "Rate-Limit "}, {"type": "headers"}],
                }
            ]
        },
        {
            "max_websockets": 5,
            "max_request_body": "1MB",
            "traffic_shaping": {"upload_limit": "1MB/s"},
        },
        {
            "upstreams": "text",
            "load_balancing": 5,
            "routes": [7, {"match": 1, "handle": ["x", {"type": 5}]}],
        },
    ],
)
def test_values_that_match_the_behaviour_are_not_reported(service: dict[str, Any]) -> None:
    assert messages(**service) == []


def test_backends_that_are_not_verified_are_warned_about() -> None:
    data = {"services": [{"backend": "https://x", "tls": {"insecure_skip_verify": True}}]}
    ((path, severity, message),) = agent_effects(data)
    assert (path[2:], severity) == (("tls", "insecure_skip_verify"), "warning")
    assert message == (
        "anyone on the path to the backends can read and modify the traffic; "
        "name their certificate authority in ca_file instead"
    )


@pytest.mark.parametrize(
    ("service", "key"),
    [
        ({"tls": {"client_auth": "none", "client_ca_file": "x"}}, "tls.client_ca_file"),
        ({"tls": {"insecure_skip_verify": True}}, "tls.insecure_skip_verify"),
        (
            {"protocol": "https", "backend": "http://x", "tls": {"insecure_skip_verify": True}},
            "tls.insecure_skip_verify",
        ),
    ],
)
def test_keys_without_effect_are_reported_once(service: dict[str, Any], key: str) -> None:
    assert messages(**service) == [("warning", key)]


@pytest.mark.parametrize(
    ("service", "key"),
    [
        ({"tls": {"client_auth": "require_and_verify"}}, "tls.client_auth"),
        ({"tls": {"client_auth": True}}, "tls.client_auth"),
        ({"tls": {"client_ca_file": "x"}}, "tls.client_ca_file"),
        ({"tls": {"cert_file": "x"}}, "tls.cert_file"),
        ({"tls": {"key_file": "x"}}, "tls.key_file"),
        ({"backend": "https://x", "tls": {"ca_file": "x", "ciphers": ["A"]}}, "tls.ciphers"),
        ({"tls": {"min_version": "1.3"}}, "tls.min_version"),
        ({"tls": {"ca_file": "x"}}, "tls.ca_file"),
        ({"protocol": "https", "backend": "unix:/x", "tls": {"ca_file": "x"}}, "tls.ca_file"),
        ({"tls": {"server_name": "x"}}, "tls.server_name"),
        (
            {
                "protocol": "wss",
                "upstreams": [{"address": "http://x"}],
                "tls": {"client_cert_file": "x"},
            },
            "tls.client_cert_file",
        ),
        ({"tls": {"client_key_file": "x"}}, "tls.client_key_file"),
    ],
)
def test_unsupported_protection_is_refused(service: dict[str, Any], key: str) -> None:
    assert messages(**service) == [("error", key)]


def test_the_whole_file() -> None:
    data = {
        "agent": {"name": "x"},
        "services": [5, {"name": "x", "tls": {"ciphers": ["A"]}}],
        "hot_reload": {"debounce_delay": "1s", "graceful_timeout": "1s"},
    }
    assert [dotted(path) for path, _, _ in agent_effects(data)] == ["services[1].tls.ciphers"]
    assert [dotted(path) for path in for_people(data)] == ["services[0].name", "services[1].name"]


@pytest.mark.parametrize(
    ("key", "name", "messages"),
    [
        ("pass_headers", "CF-Connecting-IP", None),
        ("pass_headers", "x-forwarded-PORT", None),
        ("pass_headers", "X-Real-IP", ("error", "the server itself sets X-Real-IP")),
        ("pass_headers", "x_forwarded_for", ("error", "the server itself sets x_forwarded_for")),
        ("pass_headers", "X-0Trust-User", ("error", "remove it")),
        ("pass_headers", "Connection", ("error", "describes the connection")),
        ("pass_headers", "Host", ("error", "describes the connection")),
        (
            "pass_headers",
            "CF-Conecting-IP",
            ("warning", "no effect: CF-Conecting-IP passes anyway; did you mean cf-c"),
        ),
        ("pass_headers", "Accept", ("warning", "no effect: Accept passes anyway")),
        ("pass_headers", "Ä", ("warning", "no effect")),
        ("pass_headers", 7, None),
        ("pass_trailers", "X-Sum", None),
        ("pass_trailers", "Digest", None),
        ("pass_trailers", "strict_transport_security", ("error", "is not safe as a trailer field")),
        ("pass_trailers", "Access-Control-Anything", ("error", "is not safe as a trailer field")),
        ("pass_trailers", "X-Original-URL", ("error", "is not safe as a trailer field")),
    ],
)
def test_pass_headers_and_pass_trailers(
    key: str, name: str | int, messages: tuple[str, str] | None
) -> None:
    found = list(
        server_effects({"api": {key: ["Forwarded" if key == "pass_headers" else "A", name]}})
    )
    assert [(dotted(path), severity) for path, severity, _ in found] == (
        [(f"api.{key}[1]", messages[0])] if messages else []
    )
    assert messages is None or messages[1] in found[0][2]


def test_the_server() -> None:
    admin = {"admin_api": "http://localhost:2019"}
    timeouts = {"drain_timeout": 1, "graceful_timeout": 1}  # of the server's own end
    assert [
        dotted(path) for path, _, _ in server_effects({"caddy": admin, "hot_reload": timeouts})
    ] == [
        "caddy.admin_api",
    ]
    assert (
        list(
            server_effects(
                {"caddy": {"mode": "external", **admin}, "hot_reload": {"enabled": False}}
            )
        )
        == []
    )


@pytest.mark.parametrize("name", ["a.example", "[::1]", "::1", "a:b", "a.example:", 5, ["a:1"]])
def test_host_names_without_a_port(name: object) -> None:
    assert messages(hostname=name, hosts=[name]) == []


def test_a_port_of_a_host_name_has_no_effect() -> None:
    ported = ["b.example:80", "[::1]:8443", "c.example"]
    assert messages(hostname="a.example:8443", hosts=ported) == [
        ("warning", "hostname"),
        ("warning", "hosts[0]"),
        ("warning", "hosts[1]"),
    ]
    ((_, _, message),) = agent_effects({"services": [{"hostname": "a.example:8443"}]})
    assert (
        message
        == "the port 8443 is ignored: clients use the ports of the server's Caddy; remove it"
    )
