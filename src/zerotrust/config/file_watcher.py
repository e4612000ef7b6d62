"""File watcher.

It watches folders instead of files: an editor writes a new file and renames it over the old one,
and Kubernetes replaces a mounted secret by switching a link. A watch on the old file would then see
nothing more. After an event in a folder, the watcher compares the status of each file.
"""

import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Final

from watchfiles import Change, awatch

RECHECK_SECONDS: Final = 5.0
"""Seconds between two checks without an event: a folder may be replaced as a whole, and some file
systems send no events."""
MAX_DELAYS: Final = 10
"""Maximum wait for a file that is written continuously, as a multiple of the delay."""

# watchfiles logs each event. A log file in a watched folder would cause an event for each line.
logging.getLogger("watchfiles").setLevel(logging.WARNING)

Status = tuple[int, int, int, int] | None


async def changes(files: Sequence[Path], *, delay: float) -> AsyncGenerator[None, None]:
    """Yield after one of `files` has changed and all were unchanged for `delay` seconds.

    Raises:
        OSError: the system cannot watch more files, or none at all.
    """
    seen = _statuses(files)

    def changed(_change: Change, _path: str) -> bool:
        return _statuses(files) != seen

    step = max(int(delay * 1000), 1)
    events = awatch(
        *_folders(files),
        watch_filter=changed,
        step=step,
        debounce=step * MAX_DELAYS,
        rust_timeout=int(RECHECK_SECONDS * 1000),
        yield_on_timeout=True,
        recursive=False,
    )
    async for _ in events:
        now = _statuses(files)
        if now != seen:
            seen = now
            yield


def _folders(files: Iterable[Path]) -> set[Path]:
    """Return the folders of the file names and of the files that they link to.

    A missing folder is replaced by its nearest existing parent.
    """
    found = {folder for file in files for folder in (file.absolute().parent, file.resolve().parent)}
    return {
        next(around for around in (folder, *folder.parents) if around.is_dir()) for folder in found
    }


def _statuses(files: Iterable[Path]) -> list[Status]:
    return [_status(file) for file in files]


def _status(file: Path) -> Status:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
