"""Rate limits for attempts to join and to renew, and for the records of refusals. Sans-I/O.

A token has 256 random bits, so it cannot be guessed. The limits bound what attempts cost the
server, above all the audit records, which are kept forever.
"""

from collections import Counter
from typing import Final

from zerotrust.errors import TooManyAttempts
from zerotrust.limits.client_network import network_of
from zerotrust.limits.gcra import CellRate

JOINS_A_MINUTE: Final = 10
"""Attempts from one client network."""

RECORDS_AT_ONCE: Final = 60
RECORDS_EACH: Final = 60.0
"""Mean seconds between two records of refusals of one kind, after RECORDS_AT_ONCE."""

RENEWALS_A_MINUTE: Final = 30
"""Attempts of one agent; few of them succeed (`join.MOST_ISSUED`)."""


class Attempts:
    """Counts attempts, before the database is asked."""

    def __init__(self) -> None:
        self._joins = CellRate(JOINS_A_MINUTE, 60)
        self._renewals = CellRate(RENEWALS_A_MINUTE, 60)

    def admit(self, client: str, now: float) -> None:
        """Count an attempt to join.

        Args:
            client: IP address; the addresses of an IPv6 /64 count as one.

        Raises:
            TooManyAttempts: the client network is over the limit.
        """
        _check(self._joins, network_of(client.encode("ascii", "replace")), now)

    def renewal(self, agent_id: str, now: float) -> None:
        """Count a renewal.

        Raises:
            TooManyAttempts: the agent is over the limit.
        """
        _check(self._renewals, agent_id.encode(), now)


class RefusalLog:
    """Limits audit records of refusals by kind: strangers must neither fill the disk nor hide
    others.

    There are no more kinds than tokens and agents.
    """

    def __init__(self) -> None:
        self._rate = CellRate(1, RECORDS_EACH, RECORDS_AT_ONCE)
        self._left_out: Counter[str] = Counter()

    def take(self, kind: str, now: float) -> int | None:
        """Return how many records of the kind were left out since the last one; None to leave
        this out."""
        if self._rate.wait(self._rate.take(kind.encode(), now)):
            self._left_out[kind] += 1
            return None
        return self._left_out.pop(kind, 0)


def _check(rate: CellRate, key: bytes, now: float) -> None:
    wait = rate.wait(rate.take(key, now))
    if wait:
        raise TooManyAttempts(f"too many attempts; try again in {wait} s", retry_after=wait)
