"""A settable clock for processes: a preloaded library (`clock.c`)."""

import shutil
import struct
import subprocess
from pathlib import Path

_OFFSET = struct.Struct("=q")


class Clock:
    """Makes the library in `folder`. Needs a C compiler, as the compiled package does.

    Attributes:
        seconds: how far it is ahead of the machine's now.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        assert compiler, "the tests need a C compiler: apt-get install gcc"
        self._library = folder / "clock.so"
        self._file = folder / "clock.offset"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", self._library, source], check=True
        )
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
