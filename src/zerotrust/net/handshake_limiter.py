"""Limits TLS handshakes: concurrent ones in total, and new ones per network. Sans-I/O.

A handshake costs a millisecond of CPU, and 100 KiB of memory until it is finished, and any client
can start one. So the number of concurrent handshakes is limited, and so is the rate of each
network. At capacity, a new handshake evicts the oldest one of the busiest network. So one network
that opens connections and sends nothing does not keep others out.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from zerotrust.limits.gcra import CellRate

MAX_HANDSHAKES: Final = 512
"""Concurrent handshakes."""
RATE: Final = 100
"""Handshakes a second from one network (an IPv4 address or a /64)."""
BURST: Final = 1000
"""Handshakes at once from one network: many agents behind one address reconnect after a restart."""

GiveUp = Callable[[], None]


class HandshakeLimiter:
    """Limiter of TLS handshakes. `now` is monotonic and in seconds.

    Attributes:
        count: number of running handshakes.
        refused: total number of connections that were refused a handshake.
    """

    def __init__(self) -> None:
        self._rate = CellRate(RATE, 1.0, BURST)
        self._running: dict[bytes, dict[GiveUp, None]] = {}
        self.count = 0
        self.refused = 0
        self._refused_by_network: Counter[bytes] = Counter()

    def begin(self, network: bytes, give_up: GiveUp, now: float) -> bool:
        """Start a handshake; return False if this network may not start one now.

        Args:
            give_up: called if the handshake is evicted for another one. Call `end` even then.
        """
        if self._rate.wait(self._rate.take(network, now)) or not self._has_room(network):
            self._refused_by_network[network] += 1
            self.refused += 1
            return False
        self._running.setdefault(network, {})[give_up] = None
        self.count += 1
        return True

    def end(self, network: bytes, give_up: GiveUp) -> None:
        """End the handshake that was started with the same arguments."""
        running = self._running.get(network, {})
        if give_up in running:
            del running[give_up]
            self.count -= 1
            if not running:
                del self._running[network]

    def take_refused(self) -> Counter[bytes]:
        """Return the number of refused connections by network since the last call."""
        counts, self._refused_by_network = self._refused_by_network, Counter()
        return counts

    def _has_room(self, network: bytes) -> bool:
        """Return True if there is room, or evict a handshake of the busiest network to make
        some."""
        if self.count < MAX_HANDSHAKES:
            return True
        most = max(self._running, key=lambda one: len(self._running[one]))
        if len(self._running.get(network, ())) >= len(self._running[most]):
            return False
        oldest = next(iter(self._running[most]))
        self.end(most, oldest)
        oldest()
        return True
