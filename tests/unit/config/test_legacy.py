"""Tests of zerotrust.config.legacy."""

from pathlib import Path
from typing import Any

import pytest

from zerotrust.config.document import Source
from zerotrust.config.legacy import EXPOSE, SERVER_NAMES, narrow_api, rename_level, translate_server
from zerotrust.model.server import ServerConfig


def source(tmp_path: Path, text: str) -> Source:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    return Source(path, overrides={}, variables={})


def translated(tmp_path: Path, text: str) -> tuple[dict[str, Any], list[str]]:
    found = source(tmp_path, text)
    translate_server(found)
    return found.data, [f"{p.severity}: {p.key}: {p.message}" for p in found.problems]


def test_every_older_name_stands_for_a_key_that_there_is() -> None:
    for name in SERVER_NAMES.values():
        model: Any = ServerConfig
        for step in name.split("."):
            model = model.model_fields[step].annotation


def test_every_older_name_is_translated(tmp_path: Path) -> None:
    text = """
agents: {listen: ":1", cert_file: c, key_file: k, ca_file: a, check_addr: ":2020"}
listen: {http: ":81", https: "192.0.2.1:444"}
tls: {mode: acme, acme: {storage_dir: s, email: e, ca_url: u}}
metrics: {addr: "127.0.0.1:9100"}
"""
    data, said = translated(tmp_path, text)
    assert said == []
    assert data == {
        "server": {"listen_addr": ":1", "cert_file": "c", "key_file": "k", "ca_file": "a"},
        "caddy": {
            "permission_addr": "127.0.0.1:2020",
            "bind": ["192.0.2.1"],
            "http_port": 81,
            "https_port": 444,
            "storage_dir": "s",
            "acme": {"email": "e", "ca_url": "u"},
        },
        "metrics": {"listen_addr": "127.0.0.1:9100"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen: {https: 443}", 'error: listen.https: "443" has no valid port'),
        ("listen: {https: ''}", "error: listen.https: http alone is not offered: write a port for https"),
        ("listen: {http3: ':443'}", "warning: listen.http3: has no effect: Caddy offers HTTP/3"),
        ("listen: {http_redirect: false}", "warning: listen.http_redirect: has no effect: each service says it"),
        ("router: {request_timeout: 30s}", "warning: router.request_timeout: has no effect"),
        ("router: {request_timeout: soon}", "warning: router.request_timeout: has no effect"),
        ("metrics: {addr: ':9090'}", 'warning: metrics.addr: ":9090" is 127.0.0.1:9090 here: there is no auth'),
        ("logging: {access_log: true}", "warning: logging.access_log: has no effect"),
        ("agents: {tcp_port_min: 1}", "warning: agents.tcp_port_min: has no effect: raw TCP"),
        ("agents: {certfile: x}", 'warning: agents.certfile: unknown key, did you mean "cert_file"?'),
        ("agents: {zzz: x}", "warning: agents.zzz: unknown key, it is ignored"),
        ("tls: {mode: none}", "warning: tls.mode: has no effect: Caddy gets certificates by ACME"),
        ("tls: {mode: manual}", "warning: tls.mode: has no effect: Caddy gets certificates by ACME, for names that"),
        ("tls: {mode: SNI}", "warning: tls.mode: has no effect: Caddy gets certificates by ACME, for names that"),
        ("tls: {sni: x}", 'error: tls.sni: expected a host name for each certificate, found "x"'),
        ("agents: 5", "error: agents: expected keys and values, found 5"),
        ("agents: {listen: ':1'}\nserver: {listen_addr: ':2'}", "error: agents.listen: is the older name of server."),
    ],
)
def test_what_has_no_counterpart_is_said(tmp_path: Path, text: str, message: str) -> None:
    _, said = translated(tmp_path, text)
    assert len(said) == 1
    assert said[0].startswith(message)


def test_what_happens_anyway_needs_no_word(tmp_path: Path) -> None:
    text = """
listen: {http_redirect: true}
router: {request_timeout: 2m}
metrics: {addr: ""}
logging: {access_log: false}
tls:
agents: {listen: }
"""
    data, said = translated(tmp_path, text)
    assert said == []
    assert data == {"logging": {}, "metrics": {}}


def test_public_certificates(tmp_path: Path) -> None:
    text = """
tls:
  manual: {cert_file: a.crt, key_file: a.key}
  sni:
    b.example.com: {cert_file: b.crt, key_file: b.key}
    c.example.com: 5
"""
    found = source(tmp_path, text)
    translate_server(found)
    assert found.problems == []
    a, b = ({"cert_file": f"{name}.crt", "key_file": f"{name}.key"} for name in "ab")
    assert found.data == {"caddy": {"certificates": [a, b, 5]}}
    assert found.as_written(("caddy", "certificates", 1, "key_file")) == ("tls", "sni", "b.example.com", "key_file")
    assert found.document.place(("caddy", "certificates", 1, "key_file")).value == (5, 49)
    for kept in ("caddy: 5", "caddy: {certificates: 5}"):
        assert translated(tmp_path, f"tls: {{manual: {{cert_file: x}}}}\n{kept}")[1] == []


def test_no_plain_http(tmp_path: Path) -> None:
    assert translated(tmp_path, "listen: {http: ''}")[0] == {"caddy": {"http_port": 0}}


def test_a_section_of_the_wrong_shape_is_left_to_the_models(tmp_path: Path) -> None:
    data, said = translated(tmp_path, "agents: {listen: ':1', check_addr: ':2'}\nserver: 5\ncaddy: {acme: 7}")
    assert said == []
    assert data["server"] == 5
    assert translated(tmp_path, "tls: {acme: {email: x}}\ncaddy: [1]")[0] == {"caddy": [1]}
    assert translated(tmp_path, "listen: {https: '1.2.3.4:1'}\ncaddy: {bind: x}")[0]["caddy"]["bind"] == "x"


def test_the_older_form_of_the_level(tmp_path: Path) -> None:
    found = source(tmp_path, "log_level: debug\nlogging:\n")
    rename_level(found)
    assert found.data == {"logging": {"level": "debug"}}
    assert found.renamed == {("logging", "level"): ("log_level",)}
    for text in ("log_level: debug\nlogging: 5\n", "log_level:\n", "logging: {level: info}\nlog_level: debug\n"):
        found = source(tmp_path, text)
        rename_level(found)
        assert found.renamed == {}
        assert "log_level" not in found.data
    assert found.idle == {("log_level",): "logging.level is given as well and wins"}


@pytest.mark.parametrize(
    ("api", "address"),
    [
        ('{listen_addr: ":9443"}', "127.0.0.1:9443"),
        (f'{{listen_addr: ":9443", {EXPOSE}: false}}', "127.0.0.1:9443"),
        (f'{{listen_addr: ":9443", {EXPOSE}: true}}', ":9443"),
        ('{listen_addr: "0.0.0.0:9443"}', "0.0.0.0:9443"),
        ('{listen_addr: "unix:/x"}', "unix:/x"),
        ("{listen_addr: 5}", 5),
    ],
)
def test_the_api_of_all_interfaces_is_loopback(tmp_path: Path, api: str, address: object) -> None:
    found = source(tmp_path, f"api: {api}\n")
    narrow_api(found)
    assert found.data["api"]["listen_addr"] == address
    assert [(p.severity, p.key) for p in found.problems] == (
        [("warning", "api.listen_addr")] if address == "127.0.0.1:9443" else []
    )


@pytest.mark.parametrize("text", ["api: 5", "api:", "server: {}"])
def test_no_api_at_all(tmp_path: Path, text: str) -> None:
    found = source(tmp_path, text)
    narrow_api(found)
    assert found.problems == []
