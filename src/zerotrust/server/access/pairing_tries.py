"""Limit on guessing pairing codes, and their digest in a thread."""

import asyncio
import time
from typing import Final

from zerotrust.accounts import pairings
from zerotrust.errors import AccessRefused, TooManyTries
from zerotrust.limits.client_network import network_of
from zerotrust.limits.gcra import CellRate

TRIES: Final = 5
EACH: Final = 300.0
MAX_WAITING: Final = 2
"""Digests that wait (as `pin_checks.MAX_WAITING`)."""


class PairingTries:
    """Counts the tries of each client network: 5 in 5 minutes."""

    def __init__(self) -> None:
        self._rate = CellRate(TRIES, EACH)
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def digest(self, code: str, client: str) -> bytes:
        """Count a try, and return the digest of the code.

        Raises:
            TooManyTries: the client network is over the limit, or too many others wait.
            AccessRefused: the text is no code.
        """
        if not pairings.is_code(code):
            raise AccessRefused("a code has 8 letters and digits")
        network = network_of(client.encode("ascii", "replace"))
        wait = self._rate.wait(self._rate.take(network, time.monotonic()))
        if wait or self._waiting >= MAX_WAITING:
            wait = wait or 5
            raise TooManyTries(f"too many tries; try again in {wait} s", retry_after=wait)
        self._waiting += 1
        try:
            async with self._lock:
                return await asyncio.to_thread(pairings.digest_of_code, code)
        finally:
            self._waiting -= 1
