"""Tests of zerotrust.model.service."""

from typing import Any

import pytest
from pydantic import ValidationError

from zerotrust.model.service import NO_BACKEND, NO_HOST, TWO_BACKENDS, Service


def service(**keys: Any) -> Service:
    return Service.model_validate({"hostname": "App.Example.com", "backend": "10.0.0.1:80", **keys})


def test_the_simple_form() -> None:
    found = service()
    assert found.service_id == "app.example.com"
    assert found.host_names == ("app.example.com",)
    assert found.first_upstream == ("10.0.0.1", 80, False)
    assert found.websocket


def test_host_names_once_hostname_first() -> None:
    assert service(hosts=["b.example.com", "APP.example.com."]).host_names == ("app.example.com", "b.example.com")
    assert service(id="web").service_id == "web"


@pytest.mark.parametrize(
    ("address", "protocol", "upstream"),
    [
        ("10.0.0.1:8080", "http", ("10.0.0.1", 8080, False)),
        ("10.0.0.1:8080", "https", ("10.0.0.1", 8080, True)),
        ("10.0.0.1:8080", "wss", ("10.0.0.1", 8080, True)),
        ("http://a", "https", ("a", 80, False)),
        ("https://a/", "http", ("a", 443, True)),
        ("WSS://a:9", "http", ("a", 9, True)),
        ("ws://[::1]", "http", ("::1", 80, False)),
        ("[::1]:9", "http", ("::1", 9, False)),
    ],
)
def test_where_the_backend_is(address: str, protocol: str, upstream: tuple[str, int, bool]) -> None:
    assert service(backend=address, protocol=protocol).first_upstream == upstream
    listed = service(backend=None, upstreams=[{"address": address}], protocol=protocol)
    assert listed.first_upstream == upstream


@pytest.mark.parametrize(
    "address", ["a", ":80", "a:0", "a:80/", "a:80/x", "http://a/x", "ftp://a", "a:99999", "http://"]
)
def test_what_is_no_backend(address: str) -> None:
    with pytest.raises(ValidationError):
        service(backend=address)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hostname": None}, NO_HOST),
        ({"backend": None}, NO_BACKEND),
        ({"upstreams": [{"address": "a:1"}]}, TWO_BACKENDS),
    ],
)
def test_what_a_service_needs(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        service(**keys)
    assert message in str(caught.value)


def test_one_value_stands_for_a_list_of_one() -> None:
    found = service(routes=[{"match": {"headers": {"A": "x", "B": ["y", "z"]}}}])
    assert found.routes[0].match.headers == {"A": ["x"], "B": ["y", "z"]}
    with pytest.raises(ValidationError):
        service(routes=[{"match": {"headers": "x"}}])


@pytest.mark.parametrize("name", ["with space", "ü", "x" * 129, "a\n"])
def test_ids_are_short_and_ascii(name: str) -> None:
    with pytest.raises(ValidationError):
        service(id=name)
