"""Tests of zerotrust.model.server."""

import pytest
from pydantic import ValidationError

from zerotrust.model.server import Caddy, ProxyApi


def test_the_proxy_api_is_not_for_the_network() -> None:
    with pytest.raises(ValidationError, match="reachable from the network without authentication"):
        ProxyApi(listen_addr=":9443")
    assert (
        ProxyApi(listen_addr=":9443", expose_to_network_without_authentication=True).listen_addr
        == ":9443"
    )
    assert ProxyApi(listen_addr="localhost:9443")


def test_trusted_proxies_are_networks() -> None:
    assert ProxyApi(trusted_proxies=["10.1.2.3/8", "::1"]).trusted_proxies == [
        "10.0.0.0/8",
        "::1/128",
    ]
    with pytest.raises(ValidationError):
        ProxyApi(trusted_proxies=["10.0.0.0/33"])


def test_where_caddy_keeps_certificates() -> None:
    assert Caddy(config_dir="/x").storage == "/x/storage"
    assert Caddy(config_dir="/x", storage_dir="/y").storage == "/y"
