"""Tests of zerotrust.doctor.state_folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from zerotrust.doctor.state_folder import (
    FolderFacts,
    file_system_of,
    judge_descriptors,
    judge_folder,
    judge_mode,
    look_at_folder,
)

WELL = FolderFacts(path="/state", file_system="ext4", free=1 << 40)
MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/export /srv/my\\040data nfs4 rw 0 0
tmpfs /srv/my\\040data/fast tmpfs rw 0 0
broken
"""


def checks(facts: FolderFacts, *, sqlite: bool = True) -> list[tuple[str, str]]:
    return [(one.check, one.level) for one in judge_folder(facts, key="state.dir", sqlite=sqlite)]


def test_a_folder_that_is_well(tmp_path: Path) -> None:
    facts = look_at_folder(str(tmp_path))
    assert (facts.write_error, facts.read_only, facts.mode_allows) == ("", False, True)
    assert facts.file_system
    assert facts.free
    assert checks(replace(facts, free=1 << 40, file_system="ext4")) == []
    assert [*tmp_path.iterdir()] == []


def test_file_systems_and_disks() -> None:
    nfs = replace(WELL, file_system="nfs4")
    assert checks(nfs) == [("machine.network_file_system", "warning")]
    assert checks(nfs, sqlite=False) == []
    assert checks(replace(WELL, free=500 << 20)) == [("machine.disk", "warning")]
    assert checks(replace(WELL, free=5 << 20)) == [("machine.disk", "broken")]
    assert checks(replace(WELL, free=None, file_system="")) == []


def test_the_file_system_of_a_folder() -> None:
    assert file_system_of(Path("/srv/my data/state"), MOUNTS) == "nfs4"
    assert file_system_of(Path("/srv/my data/fast/x"), MOUNTS) == "tmpfs"
    assert file_system_of(Path("/srv/mine"), MOUNTS) == "ext4"
    assert file_system_of(Path("/srv"), "") == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"read_only": True}, "the file system is read-only"),
        ({"selinux": True}, "SELinux is enforcing"),
        ({"selinux": True, "mode_allows": False}, "permission denied"),
        ({}, "permission denied"),
    ],
)
def test_folders_that_cannot_be_written(changes: dict[str, bool], said: str) -> None:
    facts = replace(WELL, write_error="permission denied", **changes)  # type: ignore[arg-type]
    (finding,) = judge_folder(facts, key="state.dir", sqlite=True)
    assert (finding.check, finding.level) == ("machine.folder", "broken")
    assert said in finding.seen
    assert ("restorecon" in finding.fix) == ("SELinux" in said)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    facts = look_at_folder(str(tmp_path / "none"))
    assert facts.write_error == "no such file or directory"
    assert checks(facts) == [("machine.folder", "broken")]


def test_secret_files_and_descriptors(tmp_path: Path) -> None:
    secret = tmp_path / "k.secret"
    assert [*judge_mode(str(secret), key="x")] == []
    secret.write_text("s")
    secret.chmod(0o600)
    assert [*judge_mode(str(secret), key="x")] == []
    secret.chmod(0o640)
    (finding,) = judge_mode(str(secret), key="state.url_file")
    assert finding.seen == "mode 0640"
    assert [*judge_descriptors(1 << 20, whose="server")] == []
    (finding,) = judge_descriptors(1024, whose="server")
    assert "only 1024" in finding.what
