"""Tests of zerotrust.agent.systemd. The unit is judged by systemd's own tool, where that is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zerotrust.agent import systemd
from zerotrust.errors import SetupError

ANALYZE = shutil.which("systemd-analyze")


def judged(*words: str) -> str:
    assert ANALYZE
    done = subprocess.run([ANALYZE, *words], capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_may_do_nothing_but_its_work() -> None:
    lines = systemd.unit(Path("/opt/0trust/bin/python")).splitlines()
    assert "ExecStart=/opt/0trust/bin/python -m zerotrust agent run --config /var/lib/0trust-agent/agent.yaml" in lines
    for line in ("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert line in lines


def test_it_is_always_started_again_and_leaves_memory_to_the_machine() -> None:
    lines = systemd.unit(Path("/opt/0trust/bin/python")).splitlines()
    for line in (
        "Restart=always",
        "StartLimitIntervalSec=0",
        "MemoryMax=50%",
        "TasksMax=64",
        "MemoryDenyWriteExecute=yes",
    ):
        assert line in lines


@pytest.mark.parametrize("path", ["/opt/a b/python", "/opt/100%/python", "/opt/$HOME/python", '/opt/"/python', "/o\n"])
def test_paths_that_would_be_read_otherwise(path: str) -> None:
    with pytest.raises(SetupError, match="install 0trust under a path of plain characters"):
        systemd.unit(Path(path))


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze")
def test_systemds_own_opinion(tmp_path: Path) -> None:
    path = tmp_path / "0trust-agent.service"
    path.write_text(systemd.unit(Path(sys.executable)))
    assert "0trust-agent" not in judged("verify", str(path))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged("security", "--offline=true", str(path)))
    assert found and float(found[1]) < 2.0


class TestInstalling:
    @pytest.fixture(autouse=True)
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A machine with systemd, whose root we are."""
        self.calls: list[list[str]] = []
        self.fails = ""
        self.unit = tmp_path / "unit"
        monkeypatch.setattr(systemd, "_RUNNING", tmp_path)
        monkeypatch.setattr(systemd, "UNIT", self.unit)
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr(sys, "executable", "/opt/0trust/bin/python")
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, words: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(words[2:])
        failed = self.fails == words[2]
        return subprocess.CompletedProcess(words, int(failed), "", "no\nsuch unit" if failed else "")

    def test_it_starts_now_and_at_boot(self) -> None:
        systemd.install(systemd.check())
        assert "ExecStart=/opt/0trust/bin/python" in self.unit.read_text()
        assert self.calls == [["daemon-reload"], ["enable", "0trust-agent"], ["restart", "0trust-agent"]]

    def test_systemds_reason_is_told(self) -> None:
        self.fails = "enable"
        with pytest.raises(SetupError, match="systemctl enable 0trust-agent: no such unit"):
            systemd.install(systemd.check())

    def test_a_unit_that_cannot_be_written(self) -> None:
        self.unit.mkdir()
        with pytest.raises(SetupError, match="cannot write: Is a directory"):
            systemd.install("")
        assert not self.calls

    def test_without_systemd(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(systemd, "_RUNNING", tmp_path / "no")
        with pytest.raises(SetupError, match="systemd does not run here; join without --install"):
            systemd.check()

    def test_without_rights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        with pytest.raises(SetupError, match="run it as root"):
            systemd.check()

    def test_from_a_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/home/me/.venv/bin/python")
        with pytest.raises(SetupError, match="a service cannot see what is in somebody's home"):
            systemd.check()

    def test_systemctl_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(*_: object, **__: object) -> None:
            raise FileNotFoundError(2, "No such file or directory")

        monkeypatch.setattr(subprocess, "run", missing)
        with pytest.raises(SetupError, match="systemctl daemon-reload does not work"):
            systemd.install("")
