"""Back-off towards one server: the pauses of all connections to it, and how often the agent follows
a changed number of workers.

It belongs to the server, and not to a connection: connections come and go with the workers that the
server says it has. A server that says another number in each session would otherwise be dialed, and
left, again and again.
"""

import math
import random
from typing import Final

FIRST: Final = 0.2
MOST: Final = 15.0
"""Seconds: the first backoff, which doubles with each round of attempts, and the longest one."""
SOON: Final = 30.0
SOON_MOST: Final = 1.0
"""Longest backoff in the first SOON seconds after a session ended: requests wait for a server
that restarts."""
CHANGE_FIRST: Final = 1.0
CHANGE_MOST: Final = 60.0
"""Seconds until the next change of the number of workers: the first pause, which doubles with each
change, and the longest one."""
CALM: Final = 300.0
"""Seconds without a change after which the next one counts as the first."""
OFTEN: Final = 8.0
"""Pause from which on the number of workers changes too often for an administrator's restarts."""


class BackOff:
    """Pauses towards one server. `now` is a time of the loop in all methods."""

    def __init__(self) -> None:
        self._delay = FIRST
        self._soon_until = self._grows_at = -math.inf
        self._changed_at = self._changes_at = -math.inf
        self._change_delay = 0.0

    def steady(self, now: float) -> None:
        """Begin with short pauses again: a session that lasted for a while has ended."""
        self._delay, self._soon_until, self._grows_at = FIRST, now + SOON, now

    def pause(self, now: float) -> float:
        """Return the seconds to wait after a session or an attempt has ended.

        Connections that fail at the same time lengthen the pause once.
        """
        # Full jitter: a thousand agents must not come back in step after a restart of their server.
        seconds = random.uniform(0, self._delay)  # noqa: S311
        if now >= self._grows_at:
            most = SOON_MOST if now + seconds < self._soon_until else MOST
            self._delay, self._grows_at = min(self._delay * 2, most), now + seconds
        return seconds

    def may_change_workers(self, now: float) -> bool:
        """Return True if the agent may follow a changed number of workers now; it then does so."""
        if now < self._changes_at:
            return False
        if now - self._changed_at > CALM:
            self._change_delay = CHANGE_FIRST
        else:
            self._change_delay = min(self._change_delay * 2, CHANGE_MOST)
        self._changed_at, self._changes_at = now, now + self._change_delay
        return True

    @property
    def workers_change_often(self) -> bool:
        """Return True if the number of workers has changed several times in a row."""
        return self._change_delay >= OFTEN
