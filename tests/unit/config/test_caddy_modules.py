"""Tests of zerotrust.config.caddy_modules; the files in tests/config say all that it objects to."""

from pathlib import Path

import pytest

from zerotrust.caddy.render import render
from zerotrust.config.caddy_modules import is_caddyfile
from zerotrust.config.key_report import keys
from zerotrust.config.load import examine, load_agent, load_server
from zerotrust.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "config"
SMALL = """{
	zerotrust_agents {
		listen :8443
	}
}
%s {
	%s
	zerotrust_router
}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "Caddyfile"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Caddyfile", True),
        ("Caddyfile.example", True),
        ("site.caddyfile", True),
        ("server.yaml", False),
        ("caddy.json", False),
        ("my-Caddyfile", False),
    ],
)
def test_known_by_its_name(name: str, expected: bool) -> None:
    assert is_caddyfile(Path("/etc") / name) == expected


def test_all_that_is_taken_over() -> None:
    config = load_server(FOLDER / "valid" / "server-era-b.caddyfile").config
    folder = FOLDER / "valid"
    assert config.server.listen_addr == ":8443"
    assert config.server.cert_file == str(folder / "certs/server.crt")
    assert config.server.key_file == str(folder / "certs/server.key")
    assert config.server.ca_file == str(folder / "certs/ca.crt")
    caddy = config.caddy
    assert (caddy.http_port, caddy.https_port) == (8080, 8444)
    assert caddy.bind == ["192.0.2.1", "2001:db8::1"]
    assert caddy.storage == str(folder / "store")
    assert caddy.permission_addr == "127.0.0.1:2020"
    assert (caddy.acme.email, caddy.acme.ca_url) == ("ops@example.com", "https://acme.example.com/directory")
    assert caddy.logging.level == "DEBUG"
    assert config.api.listen_addr == "127.0.0.1:9443"
    render(config)


def test_what_becomes_of_each_directive() -> None:
    _, source = examine(FOLDER / "valid" / "server-era-b.caddyfile")
    fates = {key.key: (key.state, key.note) for key in keys(source)}
    assert fates["zerotrust_agents.listen"] == ("renamed", "now server.listen_addr")
    assert fates["email"] == ("renamed", "now caddy.acme.email")
    assert fates["on_demand_tls"] == ("applied", "")
    assert fates["https://.route.zerotrust_router.request_timeout"][0] == "applied"
    assert fates["static.example.com"][0] == "without effect"
    assert fates["https://.encode"][0] == "without effect"


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL % (":443", ""))
    assert load_server(path, overrides={"server.listen_addr": ":9"}).config.server.listen_addr == ":9"


def test_an_agent_does_not_start_with_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="configuration of a server, not of an agent"):
        load_agent(written(tmp_path, SMALL % (":443", "")))


@pytest.mark.parametrize(
    ("address", "tls", "ports"),
    [
        (":443", "", (80, 443)),
        (":8443", "tls internal", (80, 8443)),
        ("https://:8443", "", (80, 8443)),
        (":8080", "", (8080, 443)),
        ("http://:8080", "tls internal", (8080, 443)),
        ("http://, https://", "", (80, 443)),
        (":80, :443", "tls internal", (80, 443)),
        ("[::1]:8443", "tls internal", (80, 8443)),
        ("example.com", "", (80, 443)),
        ("example.com/path", "", (80, 443)),
        ("{$PORTS::8443}", "tls internal", (80, 8443)),
    ],
)
def test_ports_of_the_site(tmp_path: Path, address: str, tls: str, ports: tuple[int, int]) -> None:
    caddy = load_server(written(tmp_path, SMALL % (address, tls))).config.caddy
    assert (caddy.http_port, caddy.https_port) == ports


@pytest.mark.parametrize(
    "directive",
    [
        "basic_auth {\n\tbob x\n}",
        "@inside remote_ip 10.0.0.0/8",
        "respond /admin/* 403",
        "forward_auth 127.0.0.1:9091",
        "handle /private/* {\n\tabort\n}",
        "route /api/* {\n\trespond 403\n}",
        "rate_limit 5",
        "tls {\n\tclient_auth {\n\t\tmode require\n\t}\n}",
        "tls {\n\tprotocols tls1.3\n}",
        "request_body {\n\tmax_size 1MB\n}",
        "redir /old /new",
        "no_such_directive",
    ],
)
def test_what_could_keep_somebody_out_is_never_dropped(tmp_path: Path, directive: str) -> None:
    for nested in (directive, f"route {{\n{directive}\n}}"):
        with pytest.raises(ConfigError):
            load_server(written(tmp_path, SMALL % (":443", nested)))


def test_certificates_from_files(tmp_path: Path) -> None:
    config = load_server(written(tmp_path, SMALL % (":443", "tls cert.pem /etc/key.pem"))).config
    (own,) = config.caddy.certificates
    assert (own.cert_file, own.key_file) == (str(tmp_path / "cert.pem"), "/etc/key.pem")


def test_a_permission_endpoint_of_somebody_else_is_said(tmp_path: Path) -> None:
    text = "{\n\ton_demand_tls {\n\t\task http://other/ask\n\t}\n" + (SMALL % (":443", "")).removeprefix("{")
    (warning,) = load_server(written(tmp_path, text)).warnings
    assert warning.key == "on_demand_tls"


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"empty|holds no keys"):
        load_server(written(tmp_path, text))
