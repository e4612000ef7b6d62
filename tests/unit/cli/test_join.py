"""Tests of zerotrust.cli.join; the network part is tested with agent.join and processes."""

import datetime
import io
import stat
import sys
from pathlib import Path

import pytest

from tests.support.authorities import ForeignCertificate
from zerotrust.agent import join
from zerotrust.agent.join import JoinResult
from zerotrust.agent.proxies import Proxies
from zerotrust.cli import systemd
from zerotrust.cli.main import status
from zerotrust.config.load import load_agent
from zerotrust.errors import JoinError
from zerotrust.model.agent import ServerAddress
from zerotrust.model.proxy import Proxy
from zerotrust.pki.csr import CertificateRequest
from zerotrust.pki.join_token import JoinToken

LINE = JoinToken(server="tunnel.example.com:8443", secret="s3cret", fingerprint="0" * 64)


@pytest.fixture
def proxies() -> list[Proxy | None]:
    """The proxies that agents have joined through."""
    return []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, proxies: list[Proxy | None]) -> list[JoinToken]:
    """The lines that a server is asked with, which says yes."""
    lines: list[JoinToken] = []

    def answer(
        line: JoinToken, request: CertificateRequest, way: ServerAddress, chosen: Proxies
    ) -> JoinResult:
        lines.append(line)
        proxies.append(chosen.choose(*line.address))
        return JoinResult(
            agent_id="home",
            chain_pem=b"chain",
            root_pem=ForeignCertificate.root().pem,
            hosts=("pihole.example.com",),
            not_after=datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC),
            skew=datetime.timedelta(minutes=9),
        )

    monkeypatch.setattr(join, "join", answer)
    return lines


@pytest.mark.usefixtures("asked")
def test_the_way_is_written_to_the_configuration(tmp_path: Path) -> None:
    way = ["--transport", "websocket", "--websocket-address", "www.example.com:444"]
    assert status(["agent", "join", str(LINE), *way, "--dir", str(tmp_path)]) == 0
    server = load_agent(tmp_path / "agent.yaml").config.server
    assert (server.transport, server.websocket_address) == ("websocket", "www.example.com:444")


@pytest.mark.usefixtures("asked")
def test_an_invalid_web_server_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    way = ["--websocket-address", "https://www.example.com"]
    assert status(["agent", "join", str(LINE), *way, "--dir", str(tmp_path)]) == 2
    assert "--websocket-address" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["argument", "file", "stdin"])
def test_from_a_line_to_files(
    how: str,
    asked: list[JoinToken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "line").write_text(f"{LINE}\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{LINE}\n"))
    words = {
        "argument": [str(LINE)],
        "file": ["--token-file", str(tmp_path / "line")],
        "stdin": ["-"],
    }[how]
    folder = tmp_path / "agent"
    assert status(["agent", "join", *words, "--dir", str(folder)]) == 0
    assert asked == [LINE]
    said = capsys.readouterr()
    assert (
        f"{folder}/agent.crt: certificate of agent home, valid until 2030-01-01 12:00 UTC"
        in said.out
    )
    assert f"Then: 0trust agent run --config {folder}/agent.yaml" in said.out
    assert "for pihole.example.com" in said.out
    assert said.err == "warning: this machine's clock is 0:09:00 behind the server's; set it\n"
    assert "s3cret" not in said.out
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{LINE}\n"))
    assert status(["agent", "join", *words, "--dir", str(folder)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert len(asked) == 1


def test_a_proxy_is_written_to_the_configuration(
    asked: list[JoinToken],
    proxies: list[Proxy | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://anna:other@env:3128")
    (tmp_path / "password").write_text("p4ss\n")
    options = ["--proxy", "socks5://anna@proxy:1080", "--proxy-password-file"]
    words = ["agent", "join", str(LINE), *options, str(tmp_path / "password")]
    folder = tmp_path / "agent"
    assert status([*words, "--dir", str(folder)]) == 0
    (proxy,) = proxies
    assert proxy == Proxy("socks5", "proxy", 1080, "server.proxy", "anna", "p4ss")
    said = capsys.readouterr()
    assert f"{proxy}: written to {folder}/agent.yaml" in said.out
    assert "p4ss" not in said.out + said.err + (folder / "agent.yaml").read_text()
    server = load_agent(folder / "agent.yaml").config.server
    assert server.configured_proxy == proxy
    assert stat.S_IMODE((folder / "proxy.password").stat().st_mode) == 0o600
    assert status([*words, "--dir", str(folder), "--force"]) == 0
    assert f"warning: joined through {proxy}; check server.proxy in" in capsys.readouterr().err


def test_the_proxy_of_the_environment(
    asked: list[JoinToken],
    proxies: list[Proxy | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    for name, words in (("a", []), ("b", ["--proxy", "none"])):
        assert status(["agent", "join", str(LINE), "--dir", str(tmp_path / name), *words]) == 0
    assert proxies == [Proxy("http", "proxy", 3128, "HTTPS_PROXY"), None]
    assert load_agent(tmp_path / "a" / "agent.yaml").config.server.proxy == "http://proxy:3128"
    assert "proxy" not in (tmp_path / "b" / "agent.yaml").read_text()
    assert not (tmp_path / "a" / "proxy.password").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--proxy", "http://anna:s3cr3t@proxy:3128"], 2, "the URL has a password"),
        (["--proxy-password-file", "x"], 2, "needs a user in server.proxy"),
        (
            ["--proxy", "http://anna@proxy:3128", "--proxy-password-file", "/no/file"],
            1,
            "/no/file: cannot read the proxy's password: No such file or directory",
        ),
    ],
)
def test_a_wrong_proxy(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status(["agent", "join", str(LINE), *words, "--dir", str(tmp_path)]) == code
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    assert "s3cr3t" not in error
    assert not list(tmp_path.iterdir())


def test_a_configuration_is_kept(
    asked: list[JoinToken], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.yaml").write_text("mine")
    assert status(["agent", "join", str(LINE), "--dir", str(tmp_path), "--force"]) == 0
    assert "agent.yaml: configuration, unchanged" in capsys.readouterr().out
    assert (tmp_path / "agent.yaml").read_text() == "mine"


def test_a_refusal_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> JoinResult:
        raise JoinError("tunnel.example.com:8443 refuses: the token has expired")

    monkeypatch.setattr(join, "join", refuse)
    assert status(["agent", "join", str(LINE), "--dir", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err == "error: tunnel.example.com:8443 refuses: the token has expired\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [[], [str(LINE), "--token-file", "x"], [str(LINE), "--install", "--dir", "x"]]
)
def test_wrong_command_lines(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["agent", "join", *words]) == 2
    assert capsys.readouterr().err


def test_lines_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for words, said in (
        (
            ["--token-file", str(tmp_path / "no")],
            "cannot read the join token: No such file or directory",
        ),
        (["--token-file", str(binary)], "cannot read the join token: it is not text"),
        (["nonsense"], "not a join token"),
        ([f"{LINE}"[:-5]], "the join token is incomplete"),
    ):
        assert status(["agent", "join", *words]) == 1
        found = capsys.readouterr().err
        assert said in found and found.count("\n") == 1


def test_the_service(
    asked: list[JoinToken],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    installed: list[str] = []
    monkeypatch.setattr(systemd, "STATE", tmp_path)
    monkeypatch.setattr(systemd.SystemdService, "check", lambda _service: "unit")
    monkeypatch.setattr(
        systemd.SystemdService, "install", lambda _service, unit: installed.append(unit)
    )
    assert status(["agent", "join", str(LINE), "--install"]) == 0
    assert installed == ["unit"]
    assert (tmp_path / "0trust-agent" / "agent.key").exists()
    said = capsys.readouterr().out
    assert "journalctl -u 0trust-agent" in said and "Then:" not in said


def test_the_unit_is_shown_without_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["agent", "join", "--print-unit"]) == 0
    assert capsys.readouterr().out == systemd.AGENT.unit(Path(sys.executable))
