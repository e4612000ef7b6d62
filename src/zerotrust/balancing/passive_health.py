"""Passive health checks of one upstream: when requests to it fail in a row, it is left out for a while.

The time out doubles with each ejection, to a bound, and is back at its base when the upstream has been in use for as
long as that bound. Who comes back is on probation: the first failure ejects again, the first success ends it. So an
upstream that stays broken costs one request each time, not a whole run of them.
"""

import math
from enum import Enum
from typing import Final

from zerotrust.model.upstream import OutlierDetection

_MAX_DOUBLINGS: Final = 40


class Failure(Enum):
    """How a request failed."""

    CONNECT = "no connection"
    RESET = "connection broke"
    SERVER_ERROR = "5xx"


class Outlier:
    """The runs of failures of one upstream. All times are the caller's monotonic seconds."""

    __slots__ = ("_ejections", "_errors", "_failures", "_options", "ejected_until")

    def __init__(self, options: OutlierDetection) -> None:
        self._options = options
        self._failures = 0
        self._errors = 0
        self._ejections = 0
        self.ejected_until = -math.inf

    def succeeded(self) -> None:
        """A request got an answer below 500."""
        self._failures = 0
        self._errors = 0

    def failed(self, failure: Failure) -> bool:
        """A request failed; True where the run is long enough for an ejection."""
        self._errors += 1
        self._failures = 0 if failure is Failure.SERVER_ERROR else self._failures + 1
        return 0 < self._options.consecutive_failures <= self._failures or (
            0 < self._options.consecutive_5xx <= self._errors
        )

    def ejected(self, now: float) -> bool:
        """It is left out now."""
        return now < self.ejected_until

    def eject(self, now: float) -> None:
        """Leave it out from now on; one that is out already is left out no longer for it."""
        if self.ejected(now):
            return
        options = self._options
        if now - self.ejected_until >= options.max_ejection_time:
            self._ejections = 0
        time = options.base_ejection_time * 2.0 ** min(self._ejections, _MAX_DOUBLINGS)
        self.ejected_until = now + min(time, options.max_ejection_time)
        self._ejections += 1
