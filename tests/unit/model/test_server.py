"""Tests of zerotrust.model.server."""

import pytest
from pydantic import ValidationError

from zerotrust.model.server import AgentListenerConfig, Caddy, CaddyLogging, ProxyApi, ServerConfig


def test_the_proxy_api_is_not_for_the_network() -> None:
    with pytest.raises(ValidationError, match="reachable from the network without authentication"):
        ProxyApi(listen_addr=":9443")
    assert (
        ProxyApi(listen_addr=":9443", expose_to_network_without_authentication=True).listen_addr
        == ":9443"
    )
    assert ProxyApi(listen_addr="localhost:9443")


@pytest.mark.parametrize(
    ("mode", "written", "address"),
    [
        ("managed", None, "unix:/s/api.sock"),
        ("external", None, "127.0.0.1:9443"),
        ("none", None, "127.0.0.1:9443"),
        ("managed", "127.0.0.1:9443", "127.0.0.1:9443"),
        ("none", "unix:/run/api.sock", "unix:/run/api.sock"),
    ],
)
def test_the_address_of_the_proxy_api(mode: str, written: str | None, address: str) -> None:
    sections = {"state": {"dir": "/s"}, "caddy": {"mode": mode}, "api": {"listen_addr": written}}
    assert ServerConfig.model_validate(sections).api_address == address


@pytest.mark.parametrize(
    ("mode", "written", "trusted"),
    [
        ("managed", None, []),
        ("external", None, []),
        ("none", None, ["127.0.0.0/8", "::1/128"]),
        ("none", [], []),
        ("managed", ["10.0.0.1"], ["10.0.0.1/32"]),
    ],
)
def test_who_needs_no_secret(mode: str, written: list[str] | None, trusted: list[str]) -> None:
    sections = {"caddy": {"mode": mode}, "api": {"trusted_proxies": written}}
    assert list(ServerConfig.model_validate(sections).trusted_proxies) == trusted


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


def test_caddys_level_is_read_in_any_case() -> None:
    assert CaddyLogging.model_validate({"level": "warn"}).level == "WARN"
    for level in ("loud", 5):
        with pytest.raises(ValidationError):
            CaddyLogging.model_validate({"level": level})


def test_the_admin_socket_is_in_the_folder_of_the_state_unless_it_is_named() -> None:
    assert ServerConfig.model_validate({"state": {"dir": "/s"}}).admin_socket == "/s/admin.sock"
    named = ServerConfig.model_validate({"state": {"dir": "/s"}, "admin": {"socket": "/run/a"}})
    assert named.admin_socket == "/run/a"


def test_the_access_log_has_a_file_of_its_own() -> None:
    with pytest.raises(ValidationError, match="the access log would rename"):
        ServerConfig.model_validate({"logging": {"output": "a"}, "access_log": {"output": "a"}})
    for both in ({"output": "stdout"}, {"output": "stderr"}):
        ServerConfig.model_validate({"logging": both, "access_log": both})
    with pytest.raises(ValidationError) as caught:
        ServerConfig.model_validate({"logging": {"level": "loud"}, "access_log": {"output": "a"}})
    assert [error["loc"] for error in caught.value.errors()] == [("logging", "level")]


def test_workers_need_unix_sockets_and_files() -> None:
    sockets = {"listen_addr": "unix:/run/api"}
    for workers in (2, "auto"):
        for wrong_api in (
            {"api": {"listen_addr": "127.0.0.1:9443"}},
            {"caddy": {"mode": "none"}},
            {"caddy": {"mode": "external"}},
        ):
            with pytest.raises(ValidationError, match="need a unix socket each"):
                ServerConfig.model_validate({"server": {"workers": workers}, **wrong_api})
        default = ServerConfig.model_validate({"server": {"workers": workers}})
        assert default.worker_address(0) == "unix:state/api.sock.0"
        found = ServerConfig.model_validate({"server": {"workers": workers}, "api": sockets})
        assert found.worker_address(1) == "unix:/run/api.1"
    with pytest.raises(ValidationError, match="would mix their lines"):
        ServerConfig.model_validate(
            {"server": {"workers": 2}, "api": sockets, "access_log": {"output": "stdout"}}
        )
    for wrong in (0, 65, "many"):
        with pytest.raises(ValidationError):
            ServerConfig.model_validate({"server": {"workers": wrong}, "api": sockets})


def test_the_number_of_workers() -> None:
    assert ServerConfig().server.worker_count == 1
    assert AgentListenerConfig(workers=3).worker_count == 3
    assert AgentListenerConfig(workers="auto").worker_count >= 1


@pytest.mark.parametrize(
    ("state", "shared"),
    [
        ({"url": "postgresql://0trust@db/0trust"}, True),
        ({"url_file": "url"}, True),
        ({"url": "sqlite:////state.db"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_members_share_a_database(state: dict[str, str] | None, shared: bool) -> None:
    sections = {} if state is None else {"state": state}
    server = {"member_addr": "One.example.com:8443"}
    if not shared:
        with pytest.raises(ValidationError, match="share a PostgreSQL database"):
            ServerConfig.model_validate({"server": server, **sections})
        return
    config = ServerConfig.model_validate({"server": server, **sections})
    assert config.server.member_addr == "one.example.com:8443"
