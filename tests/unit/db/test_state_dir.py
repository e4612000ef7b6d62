"""Tests of zerotrust.db.state_dir."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from zerotrust.db.state_dir import open_database
from zerotrust.errors import StateError
from zerotrust.model.database import DatabaseConfig


def test_a_folder_for_the_state_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        StateError, match=r"state\.dir: cannot create .*: not a directory; correct the path"
    ):
        open_database(DatabaseConfig(dir=str(tmp_path / "file" / "state")))
    folder = tmp_path / "new" / "state"
    open_database(DatabaseConfig(dir=str(folder))).close()
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777, 0o2770])
def test_a_folder_for_the_state_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    reason = (
        rf"state\.dir: other users can write {folder} \(mode {mode:04o}\).*: run chmod 700"
        rf" {folder}$"
    )
    with pytest.raises(StateError, match=reason):
        open_database(DatabaseConfig(dir=str(folder)))
    assert list(folder.iterdir()) == []
    folder.chmod(0o755)
    open_database(DatabaseConfig(dir=str(folder))).close()


def test_a_folder_for_the_state_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    if own == 0:
        open_database(
            DatabaseConfig(dir=str(tmp_path))
        ).close()  # root may replace everything anyway
        os.chown(tmp_path, 4711, -1)
        own = 4711
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(
        StateError, match=rf"state\.dir: user {own} owns .*: run chown \d+ {tmp_path}$"
    ):
        open_database(DatabaseConfig(dir=str(tmp_path)))


def test_a_folder_that_everybody_may_replace_is_warned_about(tmp_path: Path) -> None:
    parent = tmp_path / "open"
    parent.mkdir()
    for mode, expected in ((0o777, 1), (0o1777, 0), (0o775, 0)):
        parent.chmod(mode)
        with capture_logs() as lines:
            open_database(DatabaseConfig(dir=str(parent / "below" / "state"))).close()
        warnings = [line["reason"] for line in lines if line["event"] == "state.dir is not safe"]
        assert len(warnings) == expected
        assert all(f"all users can write {parent} (mode 0777)" in warning for warning in warnings)


def test_the_folder_of_another_sqlite_file_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere").chmod(0o775)
    url = SecretStr(f"sqlite:///{tmp_path}/elsewhere/state.db")
    with pytest.raises(StateError, match=r"elsewhere/state\.db: other users can write"):
        open_database(DatabaseConfig(dir=str(tmp_path / "state"), url=url))
