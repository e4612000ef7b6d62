"""Tells one reader of a database when to read what other processes have committed.

A reader waits, asks if something may have changed, and reads:

- SQLite has no notifications. A look twice a second costs a hundredth of a transaction.
- PostgreSQL notifies of each commit (`db.change_listener`). The reader also looks every few
  seconds, for changes by programs that notify nobody. As long as it is not proven that
  notifications arrive, it looks twice a second.
"""

import asyncio
from typing import Final

from zerotrust.db.database import Database

POLL_EACH: Final = 0.5
"""Seconds between two looks: what is taken back elsewhere ends here within a second."""
POLL_WITH_NOTIFICATIONS: Final = 5.0
LEAST_PAUSE: Final = 0.1
"""Least seconds between two looks, while many changes are committed."""


class ChangeWatch:
    """Waits for changes on behalf of one reader."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = database.signal.count
        self._version: int | None = None
        self._failed = False
        self._looked_at = float("-inf")

    async def wait(self) -> None:
        """Return when it is time to look: at a notification, or for a poll."""
        loop, signal = asyncio.get_running_loop(), self._database.signal
        seldom = signal.proven and not self._failed
        await signal.wait(self._seen, within=POLL_WITH_NOTIFICATIONS if seldom else POLL_EACH)
        if signal.count != self._seen:
            await asyncio.sleep(self._looked_at + LEAST_PAUSE - loop.time())
        # Whatever is committed from now on may be too late for the next reading.
        self._seen, self._looked_at, self._failed = signal.count, loop.time(), False

    async def changed(self) -> bool:
        """Return False if nothing was committed since the last call.

        Raises:
            StateError: the database can't be used.
        """
        before, self._version = self._version, await self._database.version()
        return self._version is None or self._version != before

    def failed(self) -> None:
        """Look again soon, and read in any case: the last reading has failed."""
        self._version, self._failed = None, True
