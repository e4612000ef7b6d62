"""A small disk that can be filled: a tmpfs. Needs root."""

import contextlib
import subprocess
from pathlib import Path
from typing import Self


class Disk:
    """Mount at `place`, created and mounted while the context is entered."""

    def __init__(self, place: Path, *, size: str = "4m") -> None:
        self.place = place
        self._size = size
        self._ballast = place / "ballast"

    def __enter__(self) -> Self:
        self.place.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size},mode=0700"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "0trust-test", self.place], check=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.place], check=True)

    def fill(self) -> None:
        """Fill the disk to the last byte."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))

    def clear(self) -> None:
        """Free the space again."""
        self._ballast.unlink()
