"""Revision: the number of the last record of the audit log, read once a second at most.

Each decision about agents and people adds a record, also those of commands and of other servers. So
the pages that show them have changed when there is a new record.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from zerotrust.errors import StateError

MAX_AGE: Final = 0.9
"""Seconds for which a reading is used."""


class Revision:
    """Reads the number for all open pages together.

    Args:
        last_record: returns the number of the last record.
        clock: monotonic seconds.
    """

    def __init__(
        self, last_record: Callable[[], Awaitable[int]], *, clock: Callable[[], float]
    ) -> None:
        self._last_record = last_record
        self._clock = clock
        self._number = 0
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def read(self, *, now: bool = False) -> int:
        """Return the number; the last known one while the database cannot be read.

        Args:
            now: read it in any case, because the caller has just changed something.
        """
        async with self._lock:
            if now or self._clock() - self._read_at >= MAX_AGE:
                try:
                    self._number = await self._last_record()
                except StateError:
                    return self._number
                self._read_at = self._clock()
            return self._number
