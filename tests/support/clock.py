"""A settable clock for processes: a preloaded library (`clock.c`)."""

import struct
from pathlib import Path

from tests.support import preloaded_library

_OFFSET = struct.Struct("=q")


class Clock:
    """Makes the library in `folder`.

    Attributes:
        seconds: how far it is ahead of the machine's now.
    """

    def __init__(self, folder: Path) -> None:
        self._library = preloaded_library.build("clock.c", folder)
        self._file = folder / "clock.offset"
        self.seconds = 0
        self.set(0)

    @property
    def command(self) -> list[str]:
        """Command prefix that makes a program use this clock."""
        return ["env", f"LD_PRELOAD={self._library}", f"CLOCK_OFFSET={self._file}"]

    def set(self, seconds: int) -> None:
        """Set the time of day `seconds` ahead of the machine's, at once."""
        self.seconds = seconds
        # Write in place: processes have mapped this file.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(_OFFSET.pack(seconds))
