"""Contents of the files that a configuration is read from.

The same files can be read again as they were: the workers of a server run with the contents that
their parent has accepted, whatever the files hold by then.
"""

from collections.abc import Mapping
from pathlib import Path


class FileContents:
    """Reads files, and remembers their contents.

    Args:
        known: contents by path; these files are not read.

    Attributes:
        found: contents of all files that were read, by path.
    """

    def __init__(self, known: Mapping[str, bytes] | None = None) -> None:
        self._known = known or {}
        self.found: dict[str, bytes] = {}

    def is_known(self, file: Path) -> bool:
        """Return True if the contents of this file are known, so that it may be gone."""
        return str(file) in self._known

    def read(self, file: Path, most: int) -> bytes:
        """Return the contents of a file; of a larger one the first `most` bytes.

        Raises:
            OSError: it can't be read.
            ValueError: there is no such path.
        """
        data = self._known.get(str(file))
        if data is None:
            with file.open("rb") as opened:
                data = opened.read(most)
        self.found[str(file)] = data
        return data
