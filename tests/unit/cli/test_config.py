"""Tests of zerotrust.cli.config."""

from pathlib import Path

import pytest

from zerotrust.cli.main import status

FOLDER = Path(__file__).parents[2] / "config"


def test_a_good_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER / "valid")
    assert status(["config", "check", "agent-simple.yaml"]) == 0
    assert capsys.readouterr().out == "agent-simple.yaml: ok, agent configuration, no warnings\n"
    assert status(["config", "check", "agent-pihole.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("warning: agent-pihole.yaml:12:9: ")
    assert lines[1] == "agent-pihole.yaml: ok, agent configuration, 1 warning"


def test_a_bad_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER / "invalid")
    assert status(["config", "check", "server.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == Path("server.txt").read_text().splitlines()
    assert lines[-1] == "server.yaml: 7 errors, 1 warning"


def test_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert status(["config", "check", str(tmp_path / "x")]) == 1
    assert "no such file" in capsys.readouterr().out
