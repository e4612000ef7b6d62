"""Tests of zerotrust.caddy.process; tests/component/test_caddy_process.py runs real processes."""

import sys
from pathlib import Path

import pytest

from zerotrust.caddy.process import die_with_parent, environment, make_directory
from zerotrust.errors import CaddyError


def test_environment() -> None:
    given = environment(
        {"PATH": "/bin", "HOME": "/root", "CADDY_ADMIN": "x"}, Path("/c"), "unix//c/admin.sock|0600"
    )
    assert given == {
        "PATH": "/bin",
        "HOME": "/c",
        "GODEBUG": "http2xconnect=1",
        "CADDY_ADMIN": "unix//c/admin.sock|0600",
        "XDG_DATA_HOME": "/c/data",
        "XDG_CONFIG_HOME": "/c/config",
    }


def test_an_existing_godebug_is_kept() -> None:
    assert (
        environment({"GODEBUG": "madvdontneed=1"}, Path("/c"), "a")["GODEBUG"]
        == "madvdontneed=1,http2xconnect=1"
    )


def test_a_directory_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaddyError, match=r"caddy\.config_dir .*file/caddy cannot be created"):
        make_directory(tmp_path / "file" / "caddy")


def test_a_directory_writable_by_others(tmp_path: Path) -> None:
    folder = tmp_path / "caddy"
    make_directory(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    make_directory(folder)
    folder.chmod(0o770)
    with pytest.raises(
        CaddyError,
        match=r"caddy\.config_dir: other users can write .*/caddy \(mode 0770\).*chmod 700",
    ):
        make_directory(folder)


def test_no_death_signal_outside_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert die_with_parent() is None
