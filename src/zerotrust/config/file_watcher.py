"""Tells when files change.

Folders are watched, not files: an editor writes a new file and renames it over the old one, and a mounted secret is
exchanged by turning a link, so what carried the name is gone and its watch with it. That something happened in a folder
says little; whether one of our files is another one now is seen from its status.
"""

import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Final

from watchfiles import Change, awatch

LOOK_AGAIN: Final = 5.0
"""Seconds after which the files are looked at though nothing was told: a folder may have been exchanged as a whole, and
some file systems tell nothing."""
PATIENCE: Final = 10
"""A file that is written without end is read after so many times the delay."""

# It logs each event in a watched folder, and a log file in that folder would make an event of each line.
logging.getLogger("watchfiles").setLevel(logging.WARNING)

Status = tuple[int, int, int, int] | None


async def changes(files: Sequence[Path], *, delay: float) -> AsyncGenerator[None, None]:
    """Yields each time that one of `files` is another one than before and all have been left alone for `delay` seconds.

    Raises:
        OSError: the system watches no more files, or none at all.
    """
    seen = _statuses(files)

    def ours(_change: Change, _path: str) -> bool:
        return _statuses(files) != seen

    step = max(int(delay * 1000), 1)
    told = awatch(
        *_folders(files),
        watch_filter=ours,
        step=step,
        debounce=step * PATIENCE,
        rust_timeout=int(LOOK_AGAIN * 1000),
        yield_on_timeout=True,
        recursive=False,
    )
    async for _ in told:
        now = _statuses(files)
        if now != seen:
            seen = now
            yield


def _folders(files: Iterable[Path]) -> set[Path]:
    """The folders that the names of the files are in, and those that the files themselves are in.

    Of a folder that is not there, the nearest one around it.
    """
    found = {folder for file in files for folder in (file.absolute().parent, file.resolve().parent)}
    return {next(around for around in (folder, *folder.parents) if around.is_dir()) for folder in found}


def _statuses(files: Iterable[Path]) -> list[Status]:
    return [_status(file) for file in files]


def _status(file: Path) -> Status:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
