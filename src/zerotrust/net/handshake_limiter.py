"""Who may do a TLS handshake now. Sans-I/O.

A handshake costs a millisecond of CPU, and one that is not finished 100 KiB, and any stranger can begin one. So those
that run have a bounded number of places, and each network can begin so many a second. Who comes when all places are
taken gets one of the network that has most of them: a single one that opens connections and says nothing does not keep
the others out.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from zerotrust.limits.gcra import CellRate

MAX_HANDSHAKES: Final = 512
"""At the same time."""
RATE: Final = 100
"""A second, of one network (an IPv4 address or a /64)."""
BURST: Final = 1000
"""As many at once: a fleet behind one address comes back after a restart."""

GiveUp = Callable[[], None]


class HandshakeLimiter:
    """The places. `now` is monotonic and in seconds.

    Attributes:
        count: handshakes that are under way; `refused`: connections that got none, ever.
    """

    def __init__(self) -> None:
        self._rate = CellRate(RATE, 1.0, BURST)
        self._running: dict[bytes, dict[GiveUp, None]] = {}
        self.count = 0
        self.refused = 0
        self._turned_away: Counter[bytes] = Counter()

    def begin(self, network: bytes, give_up: GiveUp, now: float) -> bool:
        """Take a place; False where there is none for this network.

        Args:
            give_up: called where the place goes to another; `end` is to be called all the same.
        """
        if self._rate.wait(self._rate.take(network, now)) or not self._has_room(network):
            self._turned_away[network] += 1
            self.refused += 1
            return False
        self._running.setdefault(network, {})[give_up] = None
        self.count += 1
        return True

    def end(self, network: bytes, give_up: GiveUp) -> None:
        """The handshake that has begun with the same arguments is over."""
        running = self._running.get(network, {})
        if give_up in running:
            del running[give_up]
            self.count -= 1
            if not running:
                del self._running[network]

    def turned_away(self) -> Counter[bytes]:
        """How many of each network got no place since this was asked last."""
        found, self._turned_away = self._turned_away, Counter()
        return found

    def _has_room(self, network: bytes) -> bool:
        """There is a place, or one has been made."""
        if self.count < MAX_HANDSHAKES:
            return True
        most = max(self._running, key=lambda one: len(self._running[one]))
        if len(self._running.get(network, ())) >= len(self._running[most]):
            return False
        oldest = next(iter(self._running[most]))
        self.end(most, oldest)
        oldest()
        return True
