"""Checks of folders whose files decide whom the program trusts: only their owner may write them.

Whoever may write a folder may replace the files in it, whatever the modes of the files are.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def refusal(folder: Path) -> str | None:
    """Return why another user than root and ours can replace files in the folder, with the fix; None where none can.

    Raises:
        OSError: it cannot be looked at.
    """
    owner, own = folder.stat().st_uid, os.geteuid()
    if owner not in (0, own):
        return f"{folder} belongs to the user {owner}, who may replace what is in it: chown {own} {folder}"
    return _writable(folder)


def key_warning(key: Path) -> str | None:
    """Return the reason, and the fix, where others may replace a private key and the certificate beside it."""
    try:
        # Secrets of Kubernetes are in folders like /tmp: everybody may add files, their owner alone replaces them.
        return None if key.parent.stat().st_mode & stat.S_ISVTX else _writable(key.parent)
    except OSError:
        return None  # whoever reads the key says so


def above(folder: Path) -> Iterator[str]:
    """Yield the reason, and the fix, for each folder above that everybody may write: they may replace this one.

    Raises:
        OSError: one cannot be looked at.
    """
    for parent in folder.resolve().parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield f"all users may write {parent} (mode {mode:04o}), and so replace {folder}: chmod o-w {parent}"


def _writable(folder: Path) -> str | None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & _OTHERS:
        return None
    return f"other users may write {folder} (mode {mode:04o}), and so replace what is in it: chmod 700 {folder}"
