"""How often strangers may try to join, and agents to renew, and what of it is recorded. Sans-I/O.

A token has 256 random bits: nobody guesses one, however often. What is limited is what trying costs us, for ever in the
case of a record.
"""

from collections import Counter
from typing import Final

from zerotrust.errors import TooManyAttempts
from zerotrust.limits.client_network import network_of
from zerotrust.limits.gcra import CellRate

JOINS_A_MINUTE: Final = 10
"""From one network."""

RECORDS_AT_ONCE: Final = 60
RECORDS_EACH: Final = 60.0
"""Seconds, in the long run, between two records of refusals of one kind."""

RENEWALS_A_MINUTE: Final = 30
"""Of one agent; of these few are granted (`joining.MOST_ISSUED`)."""


class Attempts:
    """Counts them; asked before the database is."""

    def __init__(self) -> None:
        self._joins = CellRate(JOINS_A_MINUTE, 60)
        self._renewals = CellRate(RENEWALS_A_MINUTE, 60)

    def admit(self, client: str, now: float) -> None:
        """Count an attempt to join.

        Args:
            client: its IP address; one /64 of IPv6 counts as one.

        Raises:
            TooManyAttempts: from this network.
        """
        _check(self._joins, network_of(client.encode("ascii", "replace")), now)

    def renewal(self, agent_id: str, now: float) -> None:
        """Count a renewal.

        Raises:
            TooManyAttempts: of this agent.
        """
        _check(self._renewals, agent_id.encode(), now)


class RefusalLog:
    """How many refusals are recorded, of each kind: strangers must not fill the disk, nor hide among their like.

    There are no more kinds than tokens and agents that somebody has made.
    """

    def __init__(self) -> None:
        self._rate = CellRate(1, RECORDS_EACH, RECORDS_AT_ONCE)
        self._left_out: Counter[str] = Counter()

    def take(self, kind: str, now: float) -> int | None:
        """Before a record: how many of the kind were left out since the last; None where this one is, too."""
        if self._rate.wait(self._rate.take(kind.encode(), now)):
            self._left_out[kind] += 1
            return None
        return self._left_out.pop(kind, 0)


def _check(rate: CellRate, key: bytes, now: float) -> None:
    wait = rate.wait(rate.take(key, now))
    if wait:
        raise TooManyAttempts(f"too many attempts; try again in {wait} s", retry_after=wait)
