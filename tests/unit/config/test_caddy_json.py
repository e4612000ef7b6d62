"""Tests of zerotrust.config.caddy_json; the files in tests/config say all that it objects to."""

import json
from pathlib import Path
from typing import Any

import pytest

from zerotrust.config.load import load_server
from zerotrust.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "config"


def document(tmp_path: Path, server: dict[str, Any], **apps: Any) -> Path:
    path = tmp_path / "caddy.json"
    agents = {"listen_addr": ":8443"}
    path.write_text(json.dumps({"apps": {"zerotrust.agents": agents, "http": {"servers": {"a": server}}, **apps}}))
    return path


def routed(*handlers: str, **keys: Any) -> dict[str, Any]:
    return {"listen": [":443"], "routes": [{"handle": [{"handler": kind} for kind in handlers], **keys}]}


def test_all_that_is_taken_over() -> None:
    config = load_server(FOLDER / "valid" / "server-era-b.json").config
    assert config.server.listen_addr == ":8443"
    assert config.server.ca_file == str(FOLDER / "valid/certs/ca.crt")
    assert config.caddy.permission_addr == "127.0.0.1:2020"
    assert config.caddy.storage == str(FOLDER / "valid/store")
    assert (config.caddy.http_port, config.caddy.https_port) == (80, 8444)
    assert config.logging.level == "info"


def test_a_server_without_tls_is_for_http(tmp_path: Path) -> None:
    loaded = load_server(document(tmp_path, {**routed("zerotrust_router"), "listen": [":18080"]}))
    assert (loaded.config.caddy.http_port, loaded.config.caddy.https_port) == (18080, 443)
    (warning,) = loaded.warnings
    assert "http_redirect: false" in warning.message


@pytest.mark.parametrize(
    "server",
    [
        routed("authentication", "zerotrust_router"),
        routed("zerotrust_router", match=[{"remote_ip": {"ranges": ["10.0.0.0/8"]}}]),
        {**routed("zerotrust_router"), "tls_connection_policies": [{"protocol_min": "tls1.3"}]},
        {**routed("zerotrust_router"), "tls_connection_policies": [{"client_authentication": {"mode": "require"}}]},
        {**routed("zerotrust_router"), "errors": {"routes": [{"handle": [{"handler": "static_response"}]}]}},
    ],
)
def test_what_could_keep_somebody_out_is_never_dropped(tmp_path: Path, server: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="could decide who gets in"):
        load_server(document(tmp_path, server))


@pytest.mark.parametrize(
    "apps", [{"http": []}, {"http": {"servers": []}}, {"http": {"servers": {"a": 5}}}, {"http": None}]
)
def test_shapes_that_caddy_would_not_take(tmp_path: Path, apps: dict[str, Any]) -> None:
    assert load_server(document(tmp_path, {}, **apps)).config.server.listen_addr == ":8443"


def test_apps_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("apps: 5\n")
    assert [warning.key for warning in load_server(path).warnings] == ["apps"]
