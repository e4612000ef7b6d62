"""Passive health checks of one upstream (outlier detection): ejection after failed requests.

Each ejection lasts twice as long as the one before, up to a maximum. The duration starts again at
its base after the upstream was in use for as long as that maximum. After an ejection the first
failure ejects the upstream again, and the first success ends this probation. So an upstream that
stays broken costs one request each time.
"""

import math
from enum import Enum
from typing import Final

from zerotrust.model.upstream import OutlierDetection

_MAX_DOUBLINGS: Final = 40


class Failure(Enum):
    """Kind of a request's failure."""

    CONNECT = "connection failed"
    RESET = "connection lost"
    SERVER_ERROR = "5xx"


class Outlier:
    """Failures of one upstream. All times are monotonic seconds of the caller."""

    __slots__ = ("_ejections", "_errors", "_failures", "_options", "ejected_until")

    def __init__(self, options: OutlierDetection) -> None:
        self._options = options
        self._failures = 0
        self._errors = 0
        self._ejections = 0
        self.ejected_until = -math.inf

    def succeeded(self) -> None:
        """Note a response with a status below 500."""
        self._failures = 0
        self._errors = 0

    def failed(self, failure: Failure) -> bool:
        """Note a failed request. Return True if there were enough in a row for an ejection."""
        self._errors += 1
        self._failures = 0 if failure is Failure.SERVER_ERROR else self._failures + 1
        return 0 < self._options.consecutive_failures <= self._failures or (
            0 < self._options.consecutive_5xx <= self._errors
        )

    def ejected(self, now: float) -> bool:
        """Return True if the upstream is ejected now."""
        return now < self.ejected_until

    def eject(self, now: float) -> None:
        """Eject the upstream from now on. A running ejection is not extended."""
        if self.ejected(now):
            return
        options = self._options
        if now - self.ejected_until >= options.max_ejection_time:
            self._ejections = 0
        time = options.base_ejection_time * 2.0 ** min(self._ejections, _MAX_DOUBLINGS)
        self.ejected_until = now + min(time, options.max_ejection_time)
        self._ejections += 1
