"""Tests of zerotrust.server.identity.trust_settings."""

from pathlib import Path
from typing import Any

from tests.support.identities import authority
from zerotrust.model.server import ServerConfig
from zerotrust.pki.identity import serial_of
from zerotrust.server.identity.trust_settings import access_settings, trust_settings


def config(root: Path, **settings: Any) -> ServerConfig:
    return ServerConfig.model_validate({"server": {"ca_file": str(root)}, **settings})


def test_each_setting_shows_a_change_of_it_alone(tmp_path: Path) -> None:
    root, other = tmp_path / "ca.crt", tmp_path / "other.crt"
    root.write_bytes(b"one")
    other.write_bytes(b"two")
    before = trust_settings(config(root), None)
    assert before["issuer"] is None
    made, _ = authority(tmp_path / "pki")
    assert trust_settings(config(root), made)["issuer"] == serial_of(made.issuer.certificate)

    def changed(config: ServerConfig) -> list[str]:
        now = trust_settings(config, None)
        return [name for name in before if now[name] != before[name]]

    assert changed(config(root)) == []
    assert changed(config(other)) == ["ca_file"]
    assert changed(config(root, grants={"home": ["app.example.com"]})) == ["grants"]
    assert changed(config(root, unsafe_agents_may_claim_any_host=True)) == ["any_host"]


def test_the_order_of_grants_does_not_show(tmp_path: Path) -> None:
    root = tmp_path / "ca.crt"
    root.touch()
    grants = {"home": ["a.example.com", "b.example.com"], "work": ["c.example.com"]}
    turned = {"work": ["c.example.com"], "home": ["b.example.com", "a.example.com"]}
    assert trust_settings(config(root, grants=grants), None) == trust_settings(
        config(root, grants=turned), None
    )


def test_servers_with_equal_rules_of_access_have_equal_digests(tmp_path: Path) -> None:
    def rules(host: str, server: str) -> dict[str, str]:
        return access_settings(config(tmp_path, access={"auth_host": host}), server=server)

    one, two = rules("auth.example.com", "one"), rules("auth.example.com", "two")
    assert (one["server"], two["server"]) == ("one", "two")
    assert one["access"] == two["access"] != rules("login.example.com", "one")["access"]
    assert access_settings(config(tmp_path), server="one")["access"] != one["access"]
