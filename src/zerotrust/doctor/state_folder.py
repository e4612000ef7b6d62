"""Check of the machine: the server's folder, its file system, disk and descriptors."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zerotrust.model.doctor import Finding
from zerotrust.net.channel import describe

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph", "afs"}
)
"""File systems on which SQLite's locks do not hold."""
FEW_BYTES: Final = 1 << 30
TOO_FEW_BYTES: Final = 64 << 20
FEW_DESCRIPTORS: Final = 4096
"""With fewer, the server or agent has room for a thousand WebSockets at most."""
_ENFORCE: Final = Path("/sys/fs/selinux/enforce")
_MOUNTS: Final = Path("/proc/self/mounts")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """Facts about a folder that the program writes.

    Attributes:
        file_system: type of its file system; empty if unknown.
        free: bytes that are free.
        write_error: the reason why no file could be created there; empty if one could.
        read_only: the file system is mounted read-only.
        mode_allows: the modes let this user write.
        selinux: SELinux enforces its policy on this machine.
    """

    path: str
    file_system: str = ""
    free: int | None = None
    write_error: str = ""
    read_only: bool = False
    mode_allows: bool = True
    selinux: bool = False


def look_at_folder(path: str) -> FolderFacts:
    """Return the facts about a folder. A file is created there, and removed at once."""
    folder = Path(path)
    error, free, read_only = "", None, False
    try:
        free = shutil.disk_usage(folder).free
        read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as caught:
        error = describe(caught)
    return FolderFacts(
        path=path,
        file_system=file_system_of(folder, _read(_MOUNTS)),
        free=free,
        write_error=error,
        read_only=read_only,
        mode_allows=os.access(folder, os.W_OK | os.X_OK),
        selinux=_read(_ENFORCE).strip() == "1",
    )


def file_system_of(folder: Path, mounts: str) -> str:
    """Return the type of the file system of a folder.

    Args:
        mounts: the contents of /proc/self/mounts.
    """
    found, longest = "", -1
    where = folder.resolve()
    for line in mounts.splitlines():
        parts = line.split()
        if len(parts) < 3:
            continue
        mount = Path(parts[1].replace("\\040", " "))
        if where.is_relative_to(mount) and len(mount.parts) >= longest:
            found, longest = parts[2], len(mount.parts)
    return found


def judge_folder(facts: FolderFacts, *, key: str, sqlite: bool) -> Iterator[Finding]:
    """Yield what is wrong with a folder.

    Args:
        key: configuration key that names it.
        sqlite: the database is there.
    """
    if facts.write_error:
        yield _unwritable(facts, key)
        return
    if sqlite and facts.file_system in NETWORK_FILE_SYSTEMS:
        yield Finding(
            check="machine.network_file_system",
            level="warning",
            subject=facts.path,
            what=f"the database in {facts.path} is on a network file system",
            seen=facts.file_system,
            fix=f"move {key} to a local disk, or use PostgreSQL (state.url): SQLite's locks do not"
            " hold there",
        )
    if facts.free is not None and facts.free < FEW_BYTES:
        yield Finding(
            check="machine.disk",
            level="broken" if facts.free < TOO_FEW_BYTES else "warning",
            subject=facts.path,
            what=f"the disk of {facts.path} is nearly full",
            seen=f"{facts.free >> 20} MiB are free",
            fix="free some space, or move the folder",
        )


def judge_mode(path: str, *, key: str) -> Iterator[Finding]:
    """Yield a finding if other users can read a secret file."""
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError:
        return  # reading the configuration reports it
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding(
            check="machine.file_mode",
            level="warning",
            subject=path,
            what=f"other users can read {path} ({key})",
            seen=f"mode {mode:04o}",
            fix=f"run chmod 600 {path}",
        )


def judge_descriptors(limit: int, *, whose: str) -> Iterator[Finding]:
    """Yield a finding if a process may open too few descriptors."""
    if limit < FEW_DESCRIPTORS:
        yield Finding(
            check="machine.descriptors",
            level="warning",
            subject=whose,
            what=f"the {whose} may open only {limit} files and connections",
            seen="each request and WebSocket takes one or two",
            fix="set LimitNOFILE=65536 in its systemd unit, or ulimit -Hn",
        )


def _unwritable(facts: FolderFacts, key: str) -> Finding:
    if facts.read_only:
        seen, fix = "the file system is read-only", "mount it writable, or move the folder"
    elif facts.mode_allows and facts.selinux:
        seen = f"{facts.write_error}, although the modes allow it: SELinux is enforcing"
        fix = f"run restorecon -Rv {facts.path}, and see ausearch -m avc -ts recent"
    else:
        seen = facts.write_error
        fix = "correct the path and its owner, or run this command as the server's user"
    return Finding(
        check="machine.folder",
        level="broken",
        subject=facts.path,
        what=f"no file can be created in {facts.path} ({key})",
        seen=seen,
        fix=fix,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
