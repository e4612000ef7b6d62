"""Limit on requests of strangers that cost a signature or a look into the database.

Those that could guess a code or a PIN have stricter limits of their own, with the secrets
(`server.access`).
"""

from typing import Final

from zerotrust.errors import TooManyAttempts
from zerotrust.limits.client_network import network_of
from zerotrust.limits.gcra import CellRate

REQUESTS_A_MINUTE: Final = 120
"""Requests from one client network; a sign-in is two. An office is behind one address."""


class AttemptLimits:
    """Counts the requests of each client network."""

    def __init__(self) -> None:
        self._rate = CellRate(REQUESTS_A_MINUTE, 60)

    def admit(self, client: str, now: float) -> None:
        """Count a request.

        Raises:
            TooManyAttempts: the client's network is over the limit.
        """
        network = network_of(client.encode("ascii", "replace"))
        wait = self._rate.wait(self._rate.take(network, now))
        if wait:
            raise TooManyAttempts(f"too many attempts; try again in {wait} s", retry_after=wait)
