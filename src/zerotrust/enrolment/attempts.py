"""How often strangers may try to join, and agents to renew. Sans-I/O; asked before the database is.

A token has 256 random bits: nobody guesses one, however often. What is limited is what trying costs us.
"""

from zerotrust.errors import TooManyAttempts
from zerotrust.handlers.cell_rate import CellRate
from zerotrust.handlers.rate_limit import network_of

JOINS_A_MINUTE = 10
"""From one network."""

RECORDS_A_MINUTE = 60
"""Attempts, of all strangers together, beyond which one with an unknown token is no longer recorded; ten times as many
at once."""

RENEWALS_A_MINUTE = 30
"""Of one agent."""


class Attempts:
    """Counts them."""

    def __init__(self) -> None:
        self._joins = CellRate(JOINS_A_MINUTE, 60)
        self._records = CellRate(RECORDS_A_MINUTE, 60, 10 * RECORDS_A_MINUTE)
        self._renewals = CellRate(RENEWALS_A_MINUTE, 60)

    def admit(self, client: str, now: float) -> bool:
        """Count an attempt to join; whether it is worth a record where its token is unknown.

        Args:
            client: its IP address; one /64 of IPv6 counts as one.

        Raises:
            TooManyAttempts: from this network.
        """
        _check(self._joins, network_of(client.encode("ascii", "replace")), now)
        return self._records.wait(self._records.take(b"", now)) == 0

    def renewal(self, agent_id: str, now: float) -> None:
        """Count a renewal.

        Raises:
            TooManyAttempts: of this agent.
        """
        _check(self._renewals, agent_id.encode(), now)


def _check(rate: CellRate, key: bytes, now: float) -> None:
    wait = rate.wait(rate.take(key, now))
    if wait:
        raise TooManyAttempts(f"too many attempts; try again in {wait} s", retry_after=wait)
