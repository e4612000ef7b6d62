"""Tests of zerotrust.cli.config."""

import json
from pathlib import Path

import pytest

from zerotrust.cli.main import status

FOLDER = Path(__file__).parents[2] / "config"
SIMPLE = Path(__file__).parents[3] / "examples" / "reference" / "simple.yaml"


def test_a_good_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SIMPLE.parent)
    assert status(["config", "check", "simple.yaml"]) == 0
    assert capsys.readouterr().out == "simple.yaml: ok, agent configuration, no warnings\n"
    monkeypatch.chdir(FOLDER / "valid")
    assert status(["config", "check", "server-full.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("warning: server-full.yaml:19:14: ")
    assert lines[-1] == "server-full.yaml: ok, server configuration, 1 warning"


def test_a_bad_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER / "invalid")
    assert status(["config", "check", "server.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == Path("server.txt").read_text().splitlines()
    assert lines[-1] == "server.yaml: 7 errors, 2 warnings"


def test_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert status(["config", "check", str(tmp_path / "x")]) == 1
    assert "no such file" in capsys.readouterr().out


def test_what_becomes_of_each_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER / "valid")
    assert status(["config", "check", "-v", "agent-full.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    width = len("services[0].routes[0].handle[0].config.request.set.X-A")
    assert lines[0] == f"    3  {'agent.id':<{width}}  applied"
    assert f"   10  {'log_level':<{width}}  renamed         now logging.level" in lines
    assert lines.index("") == len(lines) - 4
    assert lines[-1] == "agent-full.yaml: ok, agent configuration, 2 warnings"


def test_json_is_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER)
    assert status(["config", "check", "--json", str(SIMPLE)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["usable"] is True
    assert found["kind"] == "agent"
    assert found["problems"] == []
    assert found["keys"][0] == {
        "key": "services[0].hostname",
        "line": 2,
        "column": 5,
        "state": "applied",
        "note": "",
    }
    assert status(["config", "check", "--json", "invalid/empty.yaml"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "file": "invalid/empty.yaml",
        "kind": None,
        "usable": False,
        "problems": [
            {
                "severity": "error",
                "file": "invalid/empty.yaml",
                "line": 0,
                "column": 0,
                "key": "",
                "message": "is empty",
            }
        ],
        "keys": [],
    }


def test_grants_that_overlap_are_warned_about(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "server.yaml"
    own = "server: {cert_file: a, key_file: b, ca_file: c}\ncaddy: {mode: none}\n"
    file.write_text(
        own + 'grants:\n  home: ["*.Lab.example.com"]\n  work: [b.example, a.lab.example.com]\n'
    )
    assert status(["config", "check", str(file)]) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(
        f'warning: {file}:5:21: grants.work[1]: "*.lab.example.com" is granted to home and'
        ' "a.lab.example.com" to work'
    )
    file.write_text(f'{own}grants: {{a: ["*.x.example", "..", 1], b: x, c: [y.z.example]}}\n')
    assert status(["config", "check", str(file)]) == 1
    assert "both may serve" not in capsys.readouterr().out


def test_wildcards_for_everybodys_domains_are_warned_about(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "agent.yaml"
    names = '["a.co.uk", "*.co.uk", "*", "*.apps.example.com"]'
    file.write_text(
        f"agent_id: a\nservices: [{{hostnames: {names}, backend: 'x:1'}}, {{hostname: 7}}, x]\n"
    )
    status(["config", "check", str(file)])
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "warning:" in one]
    assert line == (
        f'warning: {file}:2:36: services[0].hostnames[1]: "*.co.uk" matches domains of all owners'
        ' under the public suffix "co.uk"; use *.YOUR-DOMAIN.co.uk'
    )


def test_grants_for_everybodys_domains_are_warned_about(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "server.yaml"
    own = "server: {cert_file: a, key_file: b, ca_file: c}\ncaddy: {mode: none}\n"
    file.write_text(own + 'grants:\n  home: ["a.example.com", "*.co.uk"]\n  work: ["github.io"]\n')
    assert status(["config", "check", str(file)]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(
        f'warning: {file}:4:27: grants.home[1]: "*.co.uk" matches domains of all owners'
    )
    assert second.startswith(
        f'warning: {file}:5:10: grants.work[0]: "github.io" is a public suffix'
    )
    for nonsense in ("[x]", "{home: x}", "{home: [1]}"):
        file.write_text(f"{own}grants: {nonsense}\n")
        status(["config", "check", str(file)])
