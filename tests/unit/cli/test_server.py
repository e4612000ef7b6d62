"""Tests of zerotrust.cli.server: what the server is given. Its own work is tested elsewhere."""

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.identities import HOME, DirectoryServer
from tests.unit.cli.conftest import Ask
from zerotrust.cli import systemd
from zerotrust.cli.main import status
from zerotrust.cli.systemd import SERVER, SystemdService
from zerotrust.server.identity.accepted_config import AcceptedConfig, ConfigText
from zerotrust.server.identity.membership import MemberServer
from zerotrust.server.identity.worker_slot import VARIABLE, WorkerSlot


def test_the_server_with_every_option(
    started: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("server.yaml").write_text(
        "server: {listen_addr: ':1', cert_file: x.crt}\ncaddy: {mode: none}\n"
    )
    files = ["--cert", "a", "--key", "b", "--ca", "/c"]
    options = ["--listen", ":2", "--api", "127.0.0.1:3", "--log-level", "DEBUG"]
    assert status(["server", "run", "--config", "server.yaml", *files, *options]) == 0
    (_, logging), (loaded, read, slot, _) = started
    assert slot is None
    config = loaded.config
    assert read(config).config == config
    assert logging.level == "debug"
    assert config.server.listen_addr == ":2"
    assert config.api.listen_addr == "127.0.0.1:3"
    found = (config.server.cert_file, config.server.key_file, config.server.ca_file)
    assert found == (f"{tmp_path}/a", f"{tmp_path}/b", "/c")


def test_several_workers_have_a_parent(
    started: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.yaml"
    before = signal.getsignal(signal.SIGUSR2)
    file.write_text("server: {workers: 3}\napi: {listen_addr: 'unix:/run/api'}\n")
    words = ["server", "run", "--config", str(file)]
    monkeypatch.setattr(sys, "argv", ["0trust", *words])
    assert status(words) == 0
    loaded, read, arguments = started[1]
    assert loaded.config.server.worker_count == read(None).config.server.worker_count == 3
    assert arguments == words

    accepted = AcceptedConfig.create()
    text = ConfigText(loaded.contents, loaded.config.state)
    accepted.write(text)
    file.write_text("server: {workers: broken\n")
    monkeypatch.setenv(VARIABLE, f"1/3/9/{accepted.descriptor}")
    assert status(words) == 0
    loaded, read, slot, its = started[3]
    assert slot == WorkerSlot(1, 3, 9, accepted.descriptor)
    assert its.number == 1
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
    assert loaded.config.api.listen_addr == read(None).config.api.listen_addr == "unix:/run/api.1"

    other = b"server: {workers: 3}\nstate: {dir: /other}\n"
    accepted.write(replace(text, contents={str(file): other}))
    again = read(loaded.config).config
    assert again.state == loaded.config.state, "as for one process, it waits for a restart"
    assert again.api.listen_addr == f"unix:{loaded.config.state.dir}/api.sock.1"
    assert its.mark == b"\x02"
    accepted.close()
    signal.signal(signal.SIGUSR2, before)


def test_status_of_a_server(ask: Ask, server: DirectoryServer) -> None:
    server.live.sessions = [HOME]
    code, out, _ = ask("server", "status")
    assert code == 0
    said = dict(
        line.split()
        for line in out.splitlines()
        if line.startswith(("SERVER", "sessions", "streams"))
    )
    assert said == {"SERVER": "HEALTHY", "sessions": "1", "streams": str(HOME.stream_count)}
    found = json.loads(ask("server", "status", "--json")[1])
    assert (found["agents"], found["sessions"], found["streams"]) == (1, 1, HOME.stream_count)


def test_the_servers_of_one_database(ask: Ask, server: DirectoryServer) -> None:
    assert ask("server", "members") == (0, "no servers: none has server.member_addr\n", "")
    server.membership.members = (
        MemberServer("a" * 32, "one.example.com:8443", "1.0", 1_800_000_000),
        MemberServer("b" * 32, "two.example.com:8443", "1.1", 1_800_000_000),
    )
    _, out, _ = ask("server", "members")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["aaaaaaaa", "(this", "one)"],
        ["bbbbbbbb", "two.example.com:8443", "1.1"],
    ]
    said = json.loads(ask("server", "members", "--json")[1])["members"]
    assert [(one["address"], one["here"]) for one in said] == [
        ("one.example.com:8443", True),
        ("two.example.com:8443", False),
    ]


def test_a_server_that_does_not_answer_is_not_healthy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(["server", "status", "--socket", str(tmp_path / "no.sock")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"no server runs at {tmp_path}/no.sock" in said.err


class TestInstalling:
    @pytest.fixture(autouse=True)
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A machine with systemd, whose root we are."""
        self.installed: list[str] = []
        self.folder = tmp_path / "0trust-server"
        self.folder.mkdir()
        monkeypatch.setattr(systemd, "STATE", tmp_path)
        monkeypatch.setattr(
            SystemdService, "check", lambda service: service.unit(Path("/opt/python"))
        )
        monkeypatch.setattr(
            SystemdService, "install", lambda _service, unit: self.installed.append(unit)
        )

    def write(self, text: str) -> None:
        (self.folder / "server.yaml").write_text(text)

    def test_a_server_whose_files_are_in_its_folder(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.write(
            "server: {cert_file: s.crt, key_file: s.key, ca_file: ca.crt}\ncaddy: {config_dir:"
            " caddy}\n"
        )
        assert status(["server", "install"]) == 0
        assert f"--config {self.folder}/server.yaml" in self.installed[0]
        assert "journalctl -u 0trust-server" in capsys.readouterr().out

    def test_files_that_the_service_could_not_use(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.write(
            "server: {cert_file: ../s.crt, key_file: /etc/s.key}\nauthority: {cert_file: i.crt,"
            " key_file: /i.key}\n"
        )
        assert status(["server", "install"]) == 1
        assert not self.installed
        named = [
            line.split(": ")[1]
            for line in capsys.readouterr().err.splitlines()
            if line.startswith("error: ")
        ]
        assert named == [
            "server.cert_file",
            "server.key_file",
            "caddy.config_dir",
            "authority.key_file",
        ]

    def test_a_configuration_that_is_missing(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert status(["server", "install"]) == 1
        assert f"{self.folder}/server.yaml: no such file" in capsys.readouterr().err
        assert not self.installed

    def test_the_unit_is_printed_without_a_configuration(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert status(["server", "install", "--print-unit"]) == 0
        assert capsys.readouterr().out == SERVER.unit(Path(sys.executable))
        assert not self.installed
