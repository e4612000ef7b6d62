"""Verification of PINs in a thread, with limits on guessing."""

import asyncio
from collections.abc import Callable
from typing import Final

import argon2

from zerotrust.accounts import pins
from zerotrust.errors import TooManyTries
from zerotrust.limits.client_network import network_of

TRIES_OF_NETWORK: Final = 5
NETWORK_SECONDS: Final = 600.0
TRIES_A_DAY: Final = 30
DAY: Final = 86400.0
MAX_WAITING: Final = 6
"""Verifications that wait; each takes about 50 ms. The pages answer 32 requests at the same time
(`net.asgi`), and guesses from many networks must not occupy all of them."""
HASHER: Final = argon2.PasswordHasher(time_cost=1, memory_cost=47104, parallelism=1)
"""About 50 ms and 46 MiB."""


class PinAsleep(TooManyTries):
    """A PIN accepts no tries, because there were too many wrong ones."""

    code = "pin_asleep"


class PinChecks:
    """Verifies PINs one at a time, and counts the wrong ones.

    A client network has 5 wrong tries in 10 minutes. After 30 in a day from all networks the PIN
    sleeps, until the first of them is a day old or there is another PIN. Passes that it has made
    go on.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wrong: dict[str, list[tuple[float, bytes]]] = {}
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def hash(self, pin: str) -> str:
        """Return the hash of a new PIN."""
        async with self._lock:
            return await asyncio.to_thread(HASHER.hash, pin)

    async def is_right(self, pin: str, hashed: str, client: str) -> bool:
        """Verify a PIN.

        Raises:
            PinAsleep: the PIN sleeps.
            TooManyTries: the client network is over its limit, or too many wait.
        """
        network = network_of(client.encode("ascii", "replace"))
        self._check(hashed, network)
        if self._waiting >= MAX_WAITING:
            raise TooManyTries("too many visitors at once; try again in 5 s", retry_after=5)
        self._waiting += 1
        try:
            async with self._lock:
                # Others may have guessed while this one waited.
                self._check(hashed, network)
                right = pins.is_pin(pin) and await asyncio.to_thread(_verified, hashed, pin)
                if not right:
                    self._wrong.setdefault(hashed, []).append((self._clock(), network))
                return right
        finally:
            self._waiting -= 1

    def is_asleep(self, hashed: str) -> bool:
        """Return True if a PIN accepts no tries now."""
        return len(self._recent(hashed)) >= TRIES_A_DAY

    def _check(self, hashed: str, network: bytes) -> None:
        recent, now = self._recent(hashed), self._clock()
        if len(recent) >= TRIES_A_DAY:
            wait = _seconds(recent[0][0] + DAY - now)
            raise PinAsleep(
                "this PIN sleeps after too many wrong tries; ask for another one", retry_after=wait
            )
        own = [at for at, of in recent if of == network and at > now - NETWORK_SECONDS]
        if len(own) >= TRIES_OF_NETWORK:
            wait = _seconds(own[0] + NETWORK_SECONDS - now)
            raise TooManyTries(f"too many wrong tries; try again in {wait} s", retry_after=wait)

    def _recent(self, hashed: str) -> list[tuple[float, bytes]]:
        """Return the wrong tries of the last day; forget the others."""
        since = self._clock() - DAY
        for key in [key for key, tries in self._wrong.items() if tries[-1][0] <= since]:
            del self._wrong[key]
        tries = self._wrong.get(hashed)
        if tries is None:
            return []
        tries[:] = [found for found in tries if found[0] > since]
        return tries


def _verified(hashed: str, pin: str) -> bool:
    try:
        return HASHER.verify(hashed, pin)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _seconds(wait: float) -> int:
    return max(1, int(wait) + 1)
