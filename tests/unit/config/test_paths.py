"""Tests of zerotrust.config.paths."""

from pathlib import Path
from typing import Any

from zerotrust.config.paths import resolve


def test_relative_names_belong_to_the_folder_of_the_file() -> None:
    data: dict[str, Any] = {
        "server": {
            "ca_file": "ca.crt",
            "key_file": "/abs/key",
            "cert_file": "../x.crt",
            "listen_addr": ":1",
        },
        "logging": {"output": "stdout"},
        "caddy": {"binary": "caddy", "logging": {"output": "caddy.log"}},
        "services": [{"tls": {"ca_file": "a"}}, {"tls": None}, 5],
    }
    resolve(data, Path("/etc/0trust"))
    assert data == {
        "server": {
            "ca_file": "/etc/0trust/ca.crt",
            "key_file": "/abs/key",
            "cert_file": "/etc/0trust/../x.crt",
            "listen_addr": ":1",
        },
        "logging": {"output": "stdout"},
        "caddy": {"binary": "caddy", "logging": {"output": "/etc/0trust/caddy.log"}},
        "services": [{"tls": {"ca_file": "/etc/0trust/a"}}, {"tls": None}, 5],
    }


def test_wrong_shapes_are_left_alone() -> None:
    for data in (
        {"server": 5, "services": {"a": 1}},
        {"caddy": {"binary": "bin/caddy", "config_dir": 7}},
    ):
        resolve(data, Path("/etc"))
    assert data == {"caddy": {"binary": "/etc/bin/caddy", "config_dir": 7}}
