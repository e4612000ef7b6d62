"""Tests of zerotrust.cli.server: what the server is given. Its own work is tested elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.identities import HOME, Office
from tests.unit.cli.conftest import Ask
from zerotrust.cli.main import status


def test_the_server_with_every_option(
    started: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("server.yaml").write_text("server: {listen_addr: ':1', cert_file: x.crt}\ncaddy: {mode: none}\n")
    files = ["--cert", "a", "--key", "b", "--ca", "/c"]
    options = ["--listen", ":2", "--api", "127.0.0.1:3", "--log-level", "DEBUG"]
    assert status(["server", "run", "--config", "server.yaml", *files, *options]) == 0
    (_, logging), (loaded, read) = started
    config = loaded.config
    assert read(config).config == config
    assert logging.level == "debug"
    assert config.server.listen_addr == ":2"
    assert config.api.listen_addr == "127.0.0.1:3"
    found = (config.server.cert_file, config.server.key_file, config.server.ca_file)
    assert found == (f"{tmp_path}/a", f"{tmp_path}/b", "/c")


def test_status_of_a_server(ask: Ask, place: Office) -> None:
    place.live.sessions = [HOME]
    code, out, _ = ask("server", "status")
    assert code == 0
    said = dict(line.split() for line in out.splitlines() if line.startswith(("SERVER", "sessions", "streams")))
    assert said == {"SERVER": "HEALTHY", "sessions": "1", "streams": str(HOME.streams)}
    found = json.loads(ask("server", "status", "--json")[1])
    assert (found["agents"], found["sessions"], found["streams"]) == (1, 1, HOME.streams)


def test_a_server_that_does_not_answer_is_not_healthy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["server", "status", "--socket", str(tmp_path / "no.sock")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"no server runs at {tmp_path}/no.sock" in said.err
