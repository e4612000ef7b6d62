"""Tests of zerotrust.cli.doctor. The checks themselves are tested in tests/unit/doctor."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.identities import DirectoryServer
from tests.support.inprocess_stack import StackFiles
from tests.support.ports import closed_port
from zerotrust.agent import control_socket
from zerotrust.cli import admin_client, doctor, systemd
from zerotrust.cli.main import status
from zerotrust.doctor import examination, url_trace
from zerotrust.errors import CommandError, SetupError
from zerotrust.model.doctor import DoctorFacts, Finding, Hop, Trace
from zerotrust.model.status import AgentStatus, SessionStatus

Ask = Any
AWAY = AgentStatus(agent="home", software="1", sessions=[], services=[])


@pytest.fixture
def files(tmp_path: Path) -> StackFiles:
    return StackFiles(tmp_path)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """Findings of the examination, and what it was given."""
    made: list[Finding] = []

    async def findings(config: object, **given: Any) -> list[Finding]:
        del config
        calls.append(given)
        return made

    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(examination, "findings", findings)
    monkeypatch.setattr(doctor, "calls", calls, raising=False)
    return made


def given() -> dict[str, Any]:
    """Return what the last examination was given."""
    calls: list[dict[str, Any]] = vars(doctor)["calls"]
    return calls[-1]


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = status(["doctor", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def write(path: Path, config: Any) -> Path:
    path.write_text(json.dumps(config.model_dump(exclude_unset=True)))
    return path


def finding(level: str) -> Finding:
    return Finding.model_validate(
        {
            "check": "dns.x",
            "level": level,
            "subject": "a",
            "what": "a is\x1b wrong",
            "seen": "seen",
            "fix": "mend it",
        }
    )


def test_a_healthy_server(
    server: DirectoryServer, files: StackFiles, found: list[Finding], capsys: Ask
) -> None:
    file = write(files.folder / "server.yaml", files.server())
    code, out, err = run(capsys, "--config", file, "--socket", server.socket)
    assert (code, out, err) == (
        0,
        f"{file}: all is well with this server and its 0 host names\n",
        "",
    )
    assert isinstance(given()["facts"], DoctorFacts)


@pytest.mark.parametrize(
    ("levels", "code", "last"),
    [
        (["warning"], 1, "1 warning"),
        (["broken", "warning", "warning"], 2, "1 broken, 2 warnings"),
    ],
)
def test_each_finding_is_one_line(
    files: StackFiles,
    found: list[Finding],
    capsys: Ask,
    levels: list[str],
    code: int,
    last: str,
) -> None:
    found += map(finding, levels)
    file = write(files.folder / "server.yaml", files.server())
    assert run(capsys, "--config", file)[:2] == (
        code,
        "".join(f"{level}: a is? wrong (seen); mend it\n" for level in levels)
        + f"{file}: {last}\n",
    )
    assert given()["facts"] is None, "no server runs"
    code_as_json, out, _ = run(capsys, "--config", file, "--json")
    assert code_as_json == code
    told = json.loads(out)
    assert [one["level"] for one in told["findings"]] == levels
    assert (told["kind"], told["hosts"]) == ("server", 0)


def test_an_agent(
    files: StackFiles,
    found: list[Finding],
    capsys: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = SessionStatus(id="a", server="x", streams=0)
    connected = AWAY.model_copy(update={"sessions": [session]})

    async def request_status(_path: Path) -> AgentStatus:
        return connected

    services = {"id": "web", "hostname": "app.example.com", "backend": "127.0.0.1:1"}
    file = write(files.folder / "agent.yaml", files.agent(services))
    assert run(capsys, "-c", file)[0] == 0
    assert given()["status"] is None, "no agent runs"
    monkeypatch.setattr(control_socket, "request_status", request_status)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    assert "its 1 host name\n" in run(capsys, "-c", file)[1]
    (way,) = given()["ways"]
    assert (way.host, way.web_port, way.proxied) == ("127.0.0.1", 443, False)
    assert given()["status"] == connected


def test_a_running_process_that_refuses_this_user(
    files: StackFiles, found: list[Finding], capsys: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def request_status(path: Path) -> AgentStatus:
        raise SetupError(f"{path}: cannot connect") from PermissionError()

    monkeypatch.setattr(control_socket, "request_status", request_status)
    file = write(files.folder / "agent.yaml", files.agent())
    code, _, err = run(capsys, "-c", file)
    assert (code, err) == (2, f"error: {files.folder}/agent.sock: cannot connect\n")


def test_a_server_that_refuses_this_user(
    files: StackFiles, found: list[Finding], capsys: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise CommandError(f"{path}: use sudo") from PermissionError()

    monkeypatch.setattr(admin_client, "AdminClient", refuse)
    file = write(files.folder / "server.yaml", files.server())
    code, _, err = run(capsys, "-c", file)
    assert code == 2
    assert "use sudo" in err
    assert run(capsys, f"https://127.0.0.1:{closed_port()}/", "-c", file)[0] == 2


@pytest.mark.parametrize("text", ["caddy: {mode: sometimes}", "nothing: here", "server: ["])
def test_a_file_with_errors(tmp_path: Path, capsys: Ask, text: str) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(text)
    code, out, _ = run(capsys, "--config", file)
    assert code == 2
    assert out.startswith(f"broken: {file}")
    assert f"0trust config check {file}" in out


def test_the_file_of_this_machine(
    tmp_path: Path,
    files: StackFiles,
    found: list[Finding],
    capsys: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if any(map(os.path.exists, ["/config/server.yaml", "/config/agent.yaml"])):
        pytest.skip("this machine has a file of its own")
    monkeypatch.chdir(tmp_path)
    for name in ("SERVER", "AGENT"):
        service = getattr(systemd, name)
        if service.config.exists():
            pytest.skip("this machine has a service of its own")
    code, _, err = run(capsys)
    assert code == 2
    assert "found no file of a server or an agent here" in err
    write(tmp_path / "agent.yaml", files.agent())
    assert "agent.yaml: all is well with this agent" in run(capsys)[1]
    write(tmp_path / "server.yaml", files.server())
    assert "server.yaml: all is well with this server" in run(capsys)[1]


class TestUrls:
    """`0trust doctor URL`."""

    @pytest.fixture
    def traced(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        calls: list[Any] = [None]

        async def trace(asked: Any, **options: Any) -> Trace:
            calls.append((asked, options))
            hops = [
                Hop(name="dns", outcome="passed", milliseconds=1.25, seen="192.0.2.1\x1b"),
                Hop(name="tcp", outcome="ended", seen="refused", fix="open it"),
            ]
            return Trace(url=asked.url, hops=hops[: 1 if calls[0] is None else 2], ends_at=calls[0])

        monkeypatch.setattr(url_trace, "trace", trace)
        return calls

    @pytest.mark.parametrize(
        ("ends_at", "code"), [("tcp", 2), ("upstream", 2), ("policy", 1), ("upgrade", 1)]
    )
    def test_the_hop_that_ends_it(
        self, traced: list[Any], capsys: Ask, ends_at: str, code: int
    ) -> None:
        traced[0] = ends_at
        assert run(capsys, "https://a.example.com/", "-c", "/none")[:2] == (
            code,
            "dns       ok        1.2 ms  192.0.2.1?\n"
            "tcp       ENDS              refused\n"
            "                            open it\n"
            f"https://a.example.com/: ends at {ends_at}\n",
        )

    def test_a_url_that_is_well(
        self, traced: list[Any], files: StackFiles, server: DirectoryServer, capsys: Ask
    ) -> None:
        file = write(files.folder / "server.yaml", files.server())
        token = files.folder / "token"
        token.write_text("0t_m_x\n")
        options = ["--socket", str(server.socket), "--token-file", str(token)]
        code, out, _ = run(capsys, "a.example.com", "-c", file, *options)
        assert (code, out.splitlines()[-1]) == (0, "a.example.com: reaches its backend")
        asked, given = traced[-1]
        assert asked.host == "a.example.com"
        assert given["token"] == "0t_m_x"
        assert isinstance(given["facts"], DoctorFacts)
        assert len(given["roots"]) == 1
        told = json.loads(run(capsys, "a.example.com", "-c", file, "--json")[1])
        assert (told["ends_at"], told["hops"][0]["name"]) == (None, "dns")

    def test_the_file_of_an_agent_has_the_root(
        self, traced: list[Any], files: StackFiles, capsys: Ask
    ) -> None:
        file = write(files.folder / "agent.yaml", files.agent())
        assert run(capsys, "a.example.com", "-c", file)[0] == 0
        assert (traced[-1][1]["facts"], len(traced[-1][1]["roots"])) == (None, 1)

    @pytest.mark.parametrize("text", ["", "two words", "é", None])
    def test_token_files_that_cannot_be_used(
        self, traced: list[Any], tmp_path: Path, capsys: Ask, text: str | None
    ) -> None:
        token = tmp_path / "token"
        if text is not None:
            token.write_text(text)
        code, _, err = run(capsys, "a.example.com", "-c", "/none", "--token-file", token)
        assert code == 2
        assert err.startswith(f"error: {token}: ")

    def test_texts_that_are_no_urls(self, capsys: Ask) -> None:
        code, _, err = run(capsys, "ftp://a.example.com", "-c", "/none")
        assert code == 2
        assert "is no address of a service" in err
