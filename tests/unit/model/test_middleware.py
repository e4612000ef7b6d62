"""Tests of zerotrust.model.middleware."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from zerotrust.model import middleware as model

BCRYPT = "$2b$12$" + "a" * 53
ANY: TypeAdapter[Any] = TypeAdapter(model.Handler)

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("reverse_proxy", {}),
    (
        "headers",
        {"request": {"set": {"X-A": "b"}, "add": {"X-A": ["c", "d"]}, "delete": ["Cookie"]}},
    ),
    ("rate_limit", {"rate": "1000/minute", "burst": 50}),
    ("rate_limit", {"rate": "10/s", "key": "header:X-Api-Key"}),
    ("ip_whitelist", {"allowed_ips": ["192.168.1.0/24", "2001:db8::/32", "10.0.0.7"]}),
    ("ip_allow", {"allowed_ips": ["10.0.0.0/8"]}),
    ("ip_deny", {"denied_ips": ["10.0.0.0/8"]}),
    (
        "cors",
        {
            "origins": ["https://app.example.com"],
            "methods": ["get"],
            "headers": ["X-A"],
            "max_age": "1h",
        },
    ),
    ("basic_auth", {"users": {"ann": BCRYPT}}),
    ("jwt", {"algorithm": "HS256", "secret": "s" * 32, "required_claims": ["sub"]}),
    ("access", {"require": [{"group": "family", "until": "2027-03-31"}, {"ip": "10.0.0.0/8"}]}),
    ("redirect", {"location": "https://{host}{uri}", "status": 308}),
    ("respond", {"status": 404, "body": "gone", "headers": {"X-A": "b"}}),
    ("rewrite", {"strip_prefix": "/api"}),
]


@pytest.mark.parametrize(("kind", "config"), GOOD)
def test_each_kind_and_its_way_through_the_tunnel(kind: str, config: dict[str, Any]) -> None:
    handler = ANY.validate_python({"type": kind, "config": config})
    assert handler.type == kind
    assert ANY.validate_json(ANY.dump_json(handler)) == handler
    assert ANY.validate_python(handler) is handler


def test_every_kind_has_an_example() -> None:
    assert {kind for kind, _ in GOOD} == set(model.KINDS)


def objections(value: Any) -> list[tuple[tuple[Any, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        ANY.validate_python(value)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("kind", "messages"),
    [
        ("ip_whitlist", 'did you mean "ip_whitelist"?'),
        ("cache", "cache is not supported"),
        ("auth", "use basic_auth or jwt"),
        ("surprise", 'unknown handler type "surprise"; remove it'),
        ("gzip", 'unknown handler type "gzip"; remove it'),
        ("", "unknown handler type"),
    ],
)
def test_unknown_kinds(kind: str, messages: str) -> None:
    ((place, message),) = objections({"type": kind})
    assert place == ("type",)
    assert messages in message


def test_the_kind_is_read_as_people_write_it() -> None:
    assert (
        ANY.validate_python({"type": " IP-Whitelist ", "config": {"allowed_ips": ["::1"]}}).type
        == "ip_whitelist"
    )


@pytest.mark.parametrize(
    "value", [None, 5, "rate_limit", [], {}, {"type": None}, {"type": ["headers"]}]
)
def test_invalid_handlers(value: Any) -> None:
    assert objections(value)


BAD: list[tuple[str, dict[str, Any], tuple[str, ...], str]] = [
    ("rate_limit", {}, ("config", "rate"), "required"),
    ("rate_limit", {"rate": "fast"}, ("config", "rate"), 'invalid rate "fast": use 1000/minute'),
    ("rate_limit", {"rate": "0/s"}, ("config", "rate"), "invalid rate"),
    ("rate_limit", {"rate": "1/s", "burst": 0}, ("config", "burst"), "greater than or equal to 1"),
    ("rate_limit", {"rate": "1/s", "brust": 5}, ("config",), 'did you mean "burst"?'),
    ("rate_limit", {"rate": "1/s", "config": {}}, ("config",), 'unknown key "config"'),
    (
        "rate_limit",
        {"rate": "1/s", "key": "ip"},
        ("config", "key"),
        "use client, service or header:NAME",
    ),
    ("rate_limit", {"rate": "1/s", "key": "header:a b"}, ("config", "key"), "header:NAME"),
    ("ip_allow", {"allowed_ips": []}, ("config", "allowed_ips"), "at least 1"),
    (
        "ip_whitelist",
        {"allowed_ips": ["10.0.0.0/33"]},
        ("config", "allowed_ips", "0"),
        "invalid address or network",
    ),
    ("ip_deny", {"allowed_ips": ["10.0.0.0/8"]}, ("config",), 'unknown key "allowed_ips"'),
    ("cors", {"origins": []}, ("config", "origins"), "at least 1"),
    (
        "cors",
        {"origins": ["*"], "allow_credentials": True},
        ("config",),
        'does not go with origin "*"',
    ),
    ("cors", {"origins": ["app.example.com"]}, ("config", "origins", "0"), "invalid origin"),
    ("cors", {"origins": ["https://a/x"]}, ("config", "origins", "0"), "invalid origin"),
    ("cors", {"origins": ["null"]}, ("config", "origins", "0"), "invalid origin"),
    ("cors", {"origins": ["https://*"]}, ("config", "origins", "0"), "invalid origin"),
    ("cors", {"origins": ["https://a.*.b"]}, ("config", "origins", "0"), "invalid origin"),
    (
        "cors",
        {"origins": ["*"], "methods": ["A\r\nB"]},
        ("config", "methods", "0"),
        "invalid method",
    ),
    (
        "cors",
        {"origins": ["*"], "headers": ["A: b"]},
        ("config", "headers", "0"),
        "invalid header name",
    ),
    ("redirect", {"location": "/a b"}, ("config", "location"), "percent-encode"),
    ("redirect", {"location": "/\r\nX: y"}, ("config", "location"), "percent-encode"),
    ("redirect", {"location": "{query}"}, ("config", "location"), "unknown placeholder {query}"),
    ("redirect", {"location": "/", "status": 200}, ("config", "status"), "301"),
    ("respond", {"status": 101}, ("config", "status"), "200"),
    ("respond", {"status": 204, "body": "x"}, ("config",), "has no body"),
    (
        "respond",
        {"headers": {"Content-Length": "5"}},
        ("config", "headers"),
        "describes the connection",
    ),
    ("rewrite", {}, ("config",), "either strip_prefix"),
    (
        "rewrite",
        {"strip_prefix": "/a", "replace_prefix": {"/b": "/c"}},
        ("config",),
        "either strip_prefix",
    ),
    ("rewrite", {"strip_prefix": "api"}, ("config", "strip_prefix"), "invalid prefix"),
    ("rewrite", {"strip_prefix": "/a b"}, ("config", "strip_prefix"), "invalid prefix"),
    ("rewrite", {"strip_prefix": "/a?b"}, ("config", "strip_prefix"), "invalid prefix"),
    (
        "rewrite",
        {"replace_prefix": {"/a": "/../b"}},
        ("config", "replace_prefix", "/a"),
        "without . and ..",
    ),
    (
        "rewrite",
        {"replace_prefix": {"/a": "/b//c"}},
        ("config", "replace_prefix", "/a"),
        "invalid prefix",
    ),
]


@pytest.mark.parametrize(("kind", "config", "place", "messages"), BAD)
def test_errors_have_the_place_in_the_file(
    kind: str, config: dict[str, Any], place: tuple[str, ...], messages: str
) -> None:
    (found,) = objections({"type": kind, "config": config})
    assert tuple(map(str, found[0])) == place
    assert messages in found[1]


def test_a_key_beside_config_is_refused() -> None:
    ((place, message),) = objections({"type": "rate_limit", "rate": "1/s"})
    assert (place, "known keys are type, config" in message) == ((), True)
    assert objections({"type": "rate_limit"})[0][0] == ("config",)


@pytest.mark.parametrize(
    "name", ["Host", "connection", "Transfer-Encoding", "Content-Length", "TE", "Keep-Alive"]
)
@pytest.mark.parametrize("edit", ["set", "add", "delete"])
def test_headers_of_the_connection_are_refused(name: str, edit: str) -> None:
    value: Any = [name] if edit == "delete" else {name: "x"}
    ((place, message),) = objections({"type": "headers", "config": {"request": {edit: value}}})
    assert place == ("config",)
    assert name in message


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-For", "x_forwarded_for", "X-Forwarded-Host", "X-Real-IP", "X-0Trust-Error"],
)
def test_fields_that_0trust_sets_itself(name: str) -> None:
    ((_, message),) = objections({"type": "headers", "config": {"request": {"set": {name: "x"}}}})
    assert "0Trust itself sets" in message


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Port", "X-Forwarded-User", "Forwarded", "X-Original-URL"]
)
def test_headers_that_only_clients_may_not_set(name: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(model.Handler)
    adapter.validate_python({"type": "headers", "config": {"request": {"set": {name: "x"}}}})


@pytest.mark.parametrize("kind", ["basic", "basic_auth", "Basic-Auth"])
def test_authentication_is_one_of_two(kind: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(model.Authentication)
    assert isinstance(
        adapter.validate_python({"type": kind, "config": {"users": {"a": BCRYPT}}}), model.BasicAuth
    )
    with pytest.raises(ValidationError, match="basic_auth or jwt"):
        adapter.validate_python({"type": "rate_limit", "config": {"rate": "1/s"}})
    with pytest.raises(ValidationError, match="use jwt"):
        adapter.validate_python({"type": "oauth2"})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(model.KINDS), JUNK)
def test_any_values_are_valid_or_refused(kind: str, junk: Any) -> None:
    for value in (
        {"type": kind, "config": junk},
        {"type": kind, **({} if not isinstance(junk, dict) else junk)},
        junk,
    ):
        try:
            ANY.validate_python(value)
        except ValidationError as error:
            assert error.errors()
