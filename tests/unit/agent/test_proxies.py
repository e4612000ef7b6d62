"""Tests of zerotrust.agent.proxies."""

import pytest

from zerotrust.agent.proxies import Proxies
from zerotrust.errors import SetupError
from zerotrust.model.agent import ServerAddress

VARIABLES = {
    "HTTPS_PROXY": "http://anna:secret@proxy:3128",
    "NO_PROXY": "lab.example.com,10.0.0.0/8",
}


def chosen(host: str, setting: str | None = None) -> str:
    proxy = Proxies.of(ServerAddress(proxy=setting), VARIABLES).choose(host, 8443)
    return str(proxy or "")


def test_the_environment_applies_without_a_setting() -> None:
    assert chosen("tunnel.example.com") == "proxy http://anna@proxy:3128 (HTTPS_PROXY)"
    proxy = Proxies.of(ServerAddress(), VARIABLES).choose("tunnel.example.com", 8443)
    assert proxy is not None
    assert proxy.password == "secret"


@pytest.mark.parametrize(
    "host", ["a.lab.example.com", "10.2.3.4", "localhost", "127.0.0.1", "127.1.2.3", "::1"]
)
def test_some_addresses_need_no_proxy(host: str) -> None:
    assert chosen(host) == ""


@pytest.mark.parametrize("host", ["tunnel.example.com", "a.lab.example.com", "127.0.0.1"])
def test_a_setting_applies_to_every_address(host: str) -> None:
    assert chosen(host, "socks5://other") == "proxy socks5://other:1080 (server.proxy)"
    assert chosen(host, "none") == ""


def test_without_any_proxy() -> None:
    assert Proxies.of(ServerAddress(), {}).choose("tunnel.example.com", 8443) is None


def test_an_invalid_variable_is_named() -> None:
    with pytest.raises(
        SetupError, match=r"all_proxy: unknown kind of proxy: .*server.proxy"
    ) as found:
        Proxies.of(ServerAddress(), {"all_proxy": "ftp://anna:secret@proxy"})
    assert "secret" not in str(found.value)
