"""Permissions of folders with files that the program trusts: only the owner may write them.

A user who can write a folder can replace the files in it, whatever their modes are.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def refusal(folder: Path) -> str | None:
    """Return the reason and the fix if another user can replace files in the folder, else None.

    Root and the user of this process are accepted.

    Raises:
        OSError: the folder cannot be read.
    """
    owner, own = folder.stat().st_uid, os.geteuid()
    if owner not in (0, own):
        return (
            f"user {owner} owns {folder} and can replace the files in it: run chown {own} {folder}"
        )
    return _writable(folder)


def key_warning(key: Path) -> str | None:
    """Return the reason and the fix if others can replace a private key and its certificate."""
    try:
        # Kubernetes mounts secrets in sticky folders, like /tmp: only the owner can replace a file.
        return None if key.parent.stat().st_mode & stat.S_ISVTX else _writable(key.parent)
    except OSError:
        return None  # reading the key reports the error


def above(folder: Path) -> Iterator[str]:
    """Yield the reason and the fix for each parent folder that every user can write.

    Write permission there is enough to replace the whole folder.

    Raises:
        OSError: a parent folder cannot be read.
    """
    for parent in folder.resolve().parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield (
                f"all users can write {parent} (mode {mode:04o}) and replace {folder}: run chmod"
                f" o-w {parent}"
            )


def _writable(folder: Path) -> str | None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & _OTHERS:
        return None
    return (
        f"other users can write {folder} (mode {mode:04o}) and replace the files in it: run chmod"
        f" 700 {folder}"
    )
