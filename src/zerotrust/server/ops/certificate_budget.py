"""Limits on certificates for new host names of an agent's wildcard grants.

With a wildcard grant an agent can make up any number of names, and Caddy orders a certificate for
each one that a client asks for. The authority limits each account: 300 orders in 3 hours, and 50
new certificates in a week below one registered domain (Let's Encrypt, rate limits). Without limits
of our own, one agent could use these up for all others.

Below a service with a wildcard as its host name, any client can make up names. So each wildcard has
a limit of its own, which also holds for Caddy's internal authority: it keeps files of each name. Of
the agent's other limits they take a half at most, so that names of its other services get
certificates, too.

Only new names count: a name that was permitted once stays permitted.
"""

import math
from collections import Counter, deque
from typing import Final

from zerotrust.limits.ttl_cache import TtlCache
from zerotrust.model.limits import Limits

HOUR: Final = 3600.0
WEEK: Final = 7 * 24 * HOUR
MAX_NAMES: Final = 65536
"""Names in memory, about 10 MB; a name that was dropped counts as new again."""

PER_AGENT: Final = "certificates_per_agent"
PER_DOMAIN: Final = "certificates_per_domain"
PER_WILDCARD: Final = "certificates_per_wildcard"


class CertificateBudget:
    """Counts new names by agent, by agent and registered domain, and by wildcard.

    Attributes:
        permitted: new names of each agent that were permitted.
        refused: requests of Caddy for names of each agent that were refused.
    """

    def __init__(self, limits: Limits) -> None:
        self.reconfigure(limits)
        self.permitted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._known: TtlCache[bool] = TtlCache(MAX_NAMES)
        self._by_agent = _Window(HOUR)
        self._by_domain = _Window(WEEK)
        self._by_wildcard = _Window(HOUR)
        self._logged: TtlCache[bool] = TtlCache(MAX_NAMES)

    def reconfigure(self, limits: Limits) -> None:
        """Apply new limits; the counts stay."""
        self._per_agent = limits.certificates_per_agent
        self._per_domain = limits.certificates_per_domain
        self._per_wildcard = limits.certificates_per_wildcard

    def knows(self, name: str, now: float) -> bool:
        """Return True where the name was permitted before."""
        return self._known.get(name.encode(), now) is not None

    def exceeded(
        self, agent: str, domain: str | None, name: str, now: float, *, wildcard: str | None = None
    ) -> str | None:
        """Permit and count a new name of an agent, or return the limit that it exceeds.

        Args:
            domain: the registered domain of the name, by which authorities count; None where the
                name needs no public authority.
            wildcard: host name of the service that serves the name, if that is a wildcard.
        """
        counts: list[tuple[str, _Window, bytes, int]] = []
        if wildcard is not None:
            counts.append((PER_WILDCARD, self._by_wildcard, wildcard.encode(), self._per_wildcard))
        if domain is not None:
            of_domain = f"{agent} {domain}".encode()
            per_agent, per_domain = self._per_agent, self._per_domain
            if wildcard is not None:
                per_agent, per_domain = (per_agent + 1) // 2, (per_domain + 1) // 2
            counts.append((PER_AGENT, self._by_agent, agent.encode(), per_agent))
            counts.append((PER_DOMAIN, self._by_domain, of_domain, per_domain))
        for limit, window, key, most in counts:
            if window.count(key, now) >= most:
                return limit
        for _, window, key, _ in counts:
            window.add(key, now)
        self._known.put(name.encode(), True, until=math.inf)
        self.permitted[agent] += 1
        return None

    def refuse(self, agent: str, limit: str, now: float) -> bool:
        """Count a refusal; return True once an hour for each agent and limit, for the log."""
        self.refused[agent] += 1
        key = f"{agent} {limit}".encode()
        if self._logged.get(key, now) is not None:
            return False
        self._logged.put(key, True, until=now + HOUR)
        return True


class _Window:
    """Sliding window of events, by key."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times: TtlCache[deque[float]] = TtlCache(MAX_NAMES)

    def count(self, key: bytes, now: float) -> int:
        times = self._times.get(key, now)
        if times is None:
            return 0
        while times and times[0] <= now - self._seconds:
            times.popleft()
        return len(times)

    def add(self, key: bytes, now: float) -> None:
        times = self._times.get(key, now) or deque()
        times.append(now)
        self._times.put(key, times, until=now + self._seconds)
