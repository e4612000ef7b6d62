"""Tests of zerotrust.cli.systemd. systemd's own tool judges the units, where it is installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zerotrust.cli import systemd
from zerotrust.cli.systemd import AGENT, SERVER, SystemdService
from zerotrust.errors import SetupError

ANALYZE = shutil.which("systemd-analyze")
PYTHON = Path("/opt/0trust/bin/python")
each_service = pytest.mark.parametrize("service", [AGENT, SERVER], ids=lambda service: service.name)


def judged(*words: str) -> str:
    assert ANALYZE
    done = subprocess.run(
        [ANALYZE, *words], capture_output=True, text=True, timeout=15, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@each_service
def test_it_has_few_rights_and_is_always_started_again(service: SystemdService) -> None:
    lines = service.unit(PYTHON).splitlines()
    for line in (
        "DynamicUser=yes",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "MemoryDenyWriteExecute=yes",
        "Restart=always",
        "StartLimitIntervalSec=0",
        f"StateDirectory={service.name}",
    ):
        assert line in lines


def test_the_agent_has_no_capability_and_half_of_the_memory() -> None:
    lines = AGENT.unit(PYTHON).splitlines()
    command = (
        "/opt/0trust/bin/python -m zerotrust agent run --config /var/lib/0trust-agent/agent.yaml"
    )
    for line in (
        f"ExecStart={command}",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "MemoryMax=50%",
        "TasksMax=64",
    ):
        assert line in lines


def test_the_server_may_listen_on_low_ports_and_ends_caddy_itself() -> None:
    lines = SERVER.unit(PYTHON).splitlines()
    command = (
        "/opt/0trust/bin/python -m zerotrust server run --config /var/lib/0trust-server/server.yaml"
    )
    capability = "CAP_NET_BIND_SERVICE"
    for line in (
        f"ExecStart={command}",
        f"CapabilityBoundingSet={capability}",
        f"AmbientCapabilities={capability}",
        "KillMode=mixed",
    ):
        assert line in lines


@pytest.mark.parametrize(
    "path", ["/opt/a b/python", "/opt/100%/python", "/opt/$HOME/python", '/opt/"/python', "/o\n"]
)
def test_paths_that_systemd_would_read_differently(path: str) -> None:
    with pytest.raises(SetupError, match="install 0trust under a path of plain characters"):
        AGENT.unit(Path(path))


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze")
@each_service
def test_systemds_own_opinion(service: SystemdService, tmp_path: Path) -> None:
    path = tmp_path / f"{service.name}.service"
    path.write_text(service.unit(Path(sys.executable)))
    assert service.name not in judged("verify", str(path))
    found = re.search(
        r"Overall exposure level for \S+: ([0-9.]+)",
        judged("security", "--offline=true", str(path)),
    )
    assert found and float(found[1]) < 2.0


@each_service
class TestInstalling:
    @pytest.fixture(autouse=True)
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A machine with systemd, whose root we are."""
        self.calls: list[list[str]] = []
        self.fails = ""
        monkeypatch.setattr(systemd, "RUNNING", tmp_path)
        monkeypatch.setattr(systemd, "UNITS", tmp_path)
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr(sys, "executable", "/opt/0trust/bin/python")
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, words: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(words[2:])
        failed = self.fails == words[2]
        return subprocess.CompletedProcess(
            words, int(failed), "", "no\nsuch unit" if failed else ""
        )

    def test_it_starts_now_and_at_boot(self, service: SystemdService, tmp_path: Path) -> None:
        service.install(service.check())
        assert (
            "ExecStart=/opt/0trust/bin/python" in (tmp_path / f"{service.name}.service").read_text()
        )
        assert self.calls == [
            ["daemon-reload"],
            ["enable", service.name],
            ["restart", service.name],
        ]

    def test_systemds_reason_is_told(self, service: SystemdService) -> None:
        self.fails = "enable"
        with pytest.raises(SetupError, match=f"systemctl enable {service.name}: no such unit"):
            service.install(service.check())

    def test_a_unit_that_cannot_be_written(self, service: SystemdService) -> None:
        service.path.mkdir()
        with pytest.raises(SetupError, match="cannot write: Is a directory"):
            service.install("")
        assert not self.calls

    def test_without_systemd(
        self, service: SystemdService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(systemd, "RUNNING", tmp_path / "no")
        with pytest.raises(SetupError, match="systemd does not run on this machine"):
            service.check()

    def test_without_rights(self, service: SystemdService, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        with pytest.raises(SetupError, match="only root can install"):
            service.check()

    def test_from_a_home(self, service: SystemdService, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/home/me/.venv/bin/python")
        with pytest.raises(SetupError, match="services cannot see home directories"):
            service.check()

    def test_systemctl_is_missing(
        self, service: SystemdService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(*_: object, **__: object) -> None:
            raise FileNotFoundError(2, "No such file or directory")

        monkeypatch.setattr(subprocess, "run", missing)
        with pytest.raises(SetupError, match="systemctl daemon-reload does not work"):
            service.install("")
