"""Tests of zerotrust.caddy.render with golden files; `GOLDEN=write` updates them.

A golden file has YAML, a line of ten dashes, and JSON.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from zerotrust.caddy.executable import locate
from zerotrust.caddy.render import (
    MAX_HEADER_BYTES,
    PRIVATE_DEPTH,
    PRIVATE_SUFFIXES,
    is_ours,
    is_private,
    render,
    sends_edge_time,
)
from zerotrust.errors import ConfigError
from zerotrust.model.server import ServerConfig

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "caddy"
CASES = sorted(GOLDEN.glob("*.golden"))
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "caddy.md"
SEPARATOR = "----------\n"


def config_of(case: Path) -> ServerConfig:
    text = case.read_text().partition(SEPARATOR)[0]
    return ServerConfig.model_validate(YAML(typ="safe").load(text) or {})


def caddy(**keys: Any) -> ServerConfig:
    return ServerConfig.model_validate({"caddy": keys})


def pairs(node: object) -> Iterator[tuple[str, object]]:
    """Return all keys and values of a document, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from pairs(value)
    elif isinstance(node, list):
        for value in node:
            yield from pairs(value)


def deep_names(config: ServerConfig) -> re.Pattern[str]:
    server = render(config)["apps"]["http"]["servers"]["zerotrust"]
    return re.compile(server["tls_connection_policies"][0]["match"]["sni_regexp"]["pattern"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_golden(case: Path) -> None:
    source, _, expected = case.read_text().partition(SEPARATOR)
    rendered = json.dumps(render(config_of(case)), indent=2) + "\n"
    if os.environ.get("GOLDEN") == "write":
        case.write_text(source + SEPARATOR + rendered)
        return
    assert rendered == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_unsupported_settings_raise(case: Path) -> None:
    document = render(config_of(case))
    found = list(pairs(document))
    keys = [key for key, _ in found]
    assert "handle_response" not in keys
    assert "response_buffers" not in keys
    assert ("read_idle_timeout", -1) not in found
    assert document["apps"]["pki"]["certificate_authorities"]["local"]["install_trust"] is False
    servers = document["apps"]["http"]["servers"].values()
    first, *others = [[{**proxy, "@id": None} for proxy in proxies(server)] for server in servers]
    assert all(other == first for other in others), "http and https are carried alike"
    assert len([key for key in keys if key == "@id"]) == 2, "ids are unique in Caddy"
    assert all(policy["issuers"] for policy in document["apps"]["tls"]["automation"]["policies"])
    assert is_ours(document)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_caddy_accepts_the_rendered_configuration(case: Path, tmp_path: Path) -> None:
    document = render(config_of(case))
    document["storage"] = {"module": "file_system", "root": str(tmp_path / "storage")}
    log = document["logging"]["logs"]["default"]
    if log["writer"].get("filename"):
        log["writer"]["filename"] = str(tmp_path / "caddy.log")
    file = tmp_path / "caddy.json"
    file.write_text(json.dumps(document))
    done = subprocess.run(
        [locate(), "validate", "--config", file],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "XDG_DATA_HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr


def test_services_do_not_change_the_configuration() -> None:
    assert render(ServerConfig()) == render(
        ServerConfig.model_validate({"services": [{"hostname": "a.test"}]})
    )


def test_private_names_are_listed_or_dropped_at_every_depth() -> None:
    config = ServerConfig()
    listed = render(config)["apps"]["tls"]["automation"]["policies"][0]["subjects"]
    deep = deep_names(config)
    for suffix in PRIVATE_SUFFIXES:
        for depth in range(2 * PRIVATE_DEPTH):
            name = "a." * depth + suffix
            assert ("*." * depth + suffix in listed) != bool(deep.search(name)), name
    assert not deep.search("a." * 20 + "example.com")
    assert not deep.search("a." * 20 + "contest")
    assert deep.search("A." * 20 + "TEST")


def test_no_regular_expression_that_caddy_reads_as_a_placeholder() -> None:
    assert not set("{}") & set(deep_names(ServerConfig()).pattern)


def test_own_certificates() -> None:
    rendered = render(caddy(certificates=[{"cert_file": "/a.crt", "key_file": "/a.key"}]))["apps"][
        "tls"
    ]
    assert rendered["certificates"] == {"load_files": [{"certificate": "/a.crt", "key": "/a.key"}]}
    assert "certificates" not in render(caddy())["apps"]["tls"]
    assert rendered["automation"] == render(caddy())["apps"]["tls"]["automation"]


def test_permission_over_a_unix_socket_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"caddy\.permission_addr.*unix socket.*127.0.0.1:PORT"):
        render(caddy(permission_addr="unix:/run/p.sock"))


def test_one_port_for_http_and_https_is_refused() -> None:
    with pytest.raises(ConfigError, match="both 8443"):
        render(caddy(http_port=8443, https_port=8443))


@pytest.mark.parametrize(
    ("name", "private"),
    [
        ("nas", True),
        ("localhost", True),
        ("a.b.localhost", True),
        ("home.arpa", True),
        ("a.home.arpa", True),
        ("arpa.example", False),
        ("ahome.arpa", False),
        ("app.example.com", False),
        ("localhost.example.com", False),
    ],
)
def test_private_names_are_those_of_the_internal_authority(name: str, private: bool) -> None:
    assert is_private(name) is private
    (internal, _) = render(ServerConfig())["apps"]["tls"]["automation"]["policies"]
    patterns = [re.escape(subject).replace(r"\*", r"[^.]+") for subject in internal["subjects"]]
    assert any(re.fullmatch(pattern, name) for pattern in patterns) is private


def shown(document: dict[str, Any]) -> list[list[str] | None]:
    """Return what each proxy of a document shows the server as the secret."""
    return [
        proxy["headers"]["request"]["set"].get("X-0Trust-Proxy-Secret")
        for proxy in proxies(document)
    ]


def test_a_proxy_shows_the_secret_at_a_port_and_not_at_a_socket() -> None:
    at_port = {"api": {"listen_addr": "127.0.0.1:9443"}, "state": {"dir": "/var/lib/0trust"}}
    config = ServerConfig.model_validate(at_port)
    assert shown(render(config, "very secret")) == [["very secret"]] * 2
    # For people: the name of the file.
    assert shown(render(config)) == [["{file./var/lib/0trust/proxy-secret}"]] * 2
    assert "very secret" not in json.dumps(render(ServerConfig(), "very secret"))


def test_caddys_log_leaves_the_secret_out() -> None:
    encoder = render(ServerConfig())["logging"]["logs"]["default"]["encoder"]
    for field in ("request>headers>X-0trust-Proxy-Secret", "http"):
        assert encoder["fields"][field] == {"filter": "delete"}


def test_port_0_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'api\.listen_addr "127\.0\.0\.1:0"'):
        render(ServerConfig.model_validate({"api": {"listen_addr": "127.0.0.1:0"}}))


def test_a_long_admin_socket_path_is_refused() -> None:
    fits = "/" + "d" * (107 - len("//admin.sock"))
    render(caddy(config_dir=fits))
    with pytest.raises(ConfigError, match=r"config_dir is too long.* 108 bytes"):
        render(caddy(config_dir=fits + "d"))


@pytest.mark.parametrize(
    "document", [None, {}, {"apps": None}, {"apps": {"http": {"servers": {"zerotrust": {}}}}}]
)
def test_a_foreign_document_is_not_ours(document: object) -> None:
    assert not is_ours(document)


# docs/caddy.md shows a Caddyfile for mode none: it is one, and says what our own configuration says


def adapted(caddyfile: str) -> dict[str, Any]:
    done = subprocess.run(
        [locate(), "adapt", "--adapter", "caddyfile", "--config", "/dev/stdin"],
        input=caddyfile,
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def proxies(part: object) -> list[dict[str, Any]]:
    """Return all reverse_proxy handlers of a document."""
    if isinstance(part, list):
        return [found for each in part for found in proxies(each)]
    if not isinstance(part, dict):
        return []
    if part.get("handler") == "reverse_proxy":
        return [part]
    return [found for each in part.values() for found in proxies(each)]


def test_the_caddyfile_for_mode_none() -> None:
    found = re.search(r"```caddyfile\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found
    document = adapted(found[1])
    (server,) = document["apps"]["http"]["servers"].values()
    hour = 3600 * 10**9
    assert (server["read_idle_timeout"], server["write_idle_timeout"]) == (hour, hour)
    assert server["max_header_bytes"] == MAX_HEADER_BYTES
    (theirs,), (ours, _) = proxies(document), proxies(render(caddy(mode="external")))
    assert theirs["stream_close_delay"] == 24 * hour
    assert "handle_response" not in theirs
    assert theirs["upstreams"] == ours["upstreams"]
    assert (theirs["flush_interval"], ours["flush_interval"]) == (50 * 10**6, "50ms")
    for key in ("protocol", "compression", "keep_alive"):
        assert theirs["transport"][key] == ours["transport"][key]


@pytest.mark.parametrize(
    ("mode", "output", "sent"),
    [
        ("managed", "access.log", True),
        ("managed", None, False),
        ("external", "access.log", False),
        ("none", "access.log", False),
    ],
)
def test_the_time_at_the_edge_is_sent_by_a_managed_caddy_for_the_access_log(
    mode: str, output: str | None, sent: bool
) -> None:
    values = {"caddy": {"mode": mode}, "access_log": {"output": output}}
    config = ServerConfig.model_validate(values)
    assert sends_edge_time(config) is sent
    for proxy in proxies(render(config)):
        fields = proxy["headers"]["request"]["set"]
        assert fields.get("X-0Trust-Edge-Time") == (
            ["{http.request.duration_ms}"] if sent else None
        )
