"""Traffic shaper: decides how many of the waiting bytes may pass now. Sans-I/O.

It uses token buckets (RFC 2697 s3): a bucket fills at its rate up to its burst, and each byte takes
a token. In any time t, at most rate * t + burst bytes pass. There is one bucket for all clients and
one for each client; a byte takes a token from both.

The caller holds the bytes that must wait, and pauses their source. The shaper only counts them.
Flows take turns of a few bytes. If there is a limit for each client, clients take turns too: two
streams give a client no more than one, and a client with an empty bucket does not delay others. The
next turn waits for its tokens and cannot be overtaken, so every flow gets its turn.
"""

import heapq
import math
from collections import deque
from typing import Final

from zerotrust.limits.client_network import network_of
from zerotrust.limits.ttl_cache import TtlCache

MAX_CLIENTS: Final = 16384
"""Maximum client buckets. The client that was not used for longest is forgotten and starts with a
full bucket."""
BURST_SECONDS: Final = 0.2
MIN_BURST_BYTES: Final = 16 * 1024
TURN_SECONDS: Final = 0.05
MAX_TURN_BYTES: Final = 16 * 1024
MIN_TURN_BYTES: Final = 1024


class Bucket:
    """Token bucket. A token is one byte.

    Args:
        rate: bytes per second.
        now: monotonic seconds, as everywhere in this module.
    """

    __slots__ = ("_at", "_rate", "_tokens", "burst")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self.burst = burst_of(rate)
        self._tokens = self.burst
        self._at = now

    def has(self, count: int, now: float) -> bool:
        """Return True if there are `count` tokens.

        A part of a token may be missing, because times are not exact.
        """
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens > count - 1

    def spend(self, count: int) -> None:
        """Remove tokens."""
        self._tokens -= count

    def ready_at(self, count: int) -> float:
        """Return the time at which there will be `count` tokens, at most the burst."""
        return self._at + (count - self._tokens) / self._rate


class ClientQueue:
    """Flows of one client, or of all clients, that take turns."""

    __slots__ = ("bucket", "flows", "queued")

    def __init__(self, bucket: Bucket | None) -> None:
        self.bucket = bucket
        self.flows: deque[Flow] = deque()
        self.queued = False

    def first(self) -> "Flow | None":
        """Return the flow whose turn it is, after dropping flows without waiting bytes."""
        flows = self.flows
        while flows and not flows[0].waiting:
            flows.popleft().queued = False
        return flows[0] if flows else None


class Flow:
    """One direction of one stream, with `waiting` bytes. Subclasses implement `passed`.

    Args:
        queue: the client's queue (`Shaper.queue_for`).
    """

    __slots__ = ("queue", "queued", "waiting")

    def __init__(self, queue: ClientQueue) -> None:
        self.queue = queue
        self.waiting = 0
        self.queued = False

    def passed(self, count: int) -> None:
        """Forward `count` of the waiting bytes.

        It may call `Shaper.enqueue` and `Shaper.cancel`. It must not raise.
        """
        raise NotImplementedError


class Shaper:
    """Shaper for one direction of one service.

    Args:
        total: bytes per second for all clients; None for no limit.
        per_client: bytes per second for each client; None for no limit.

    Attributes:
        clients: the queue of each client.
    """

    __slots__ = (
        "_asleep",
        "_per_client",
        "_serial",
        "_shared_queue",
        "_total",
        "_turn",
        "_turns",
        "clients",
    )

    def __init__(self, *, total: float | None, per_client: float | None, now: float) -> None:
        self._total = Bucket(total, now) if total is not None else None
        self._per_client = per_client
        self._turn = min(turn_of(rate) for rate in (total, per_client) if rate is not None)
        self._shared_queue = ClientQueue(None)
        self.clients: TtlCache[ClientQueue] = TtlCache(MAX_CLIENTS)
        self._turns: deque[ClientQueue] = deque()
        self._asleep: list[tuple[float, int, ClientQueue]] = []
        self._serial = 0

    def queue_for(self, client: bytes, now: float) -> ClientQueue:
        """Return the queue of the client with this address.

        All addresses of an IPv6 /64 network are one client.
        """
        if self._per_client is None:
            return self._shared_queue
        key = network_of(client)
        queue = self.clients.get(key, now) or ClientQueue(Bucket(self._per_client, now))
        self.clients.put(key, queue, until=math.inf)
        return queue

    def enqueue(self, flow: Flow, count: int) -> None:
        """Add `count` waiting bytes to the flow. `run` calls `passed` when they may go on."""
        flow.waiting += count
        queue = flow.queue
        if not flow.queued:
            flow.queued = True
            queue.flows.append(flow)
        if not queue.queued:
            queue.queued = True
            self._turns.append(queue)

    def cancel(self, flow: Flow) -> None:
        """Drop the waiting bytes of the flow."""
        flow.waiting = 0

    def run(self, now: float) -> float | None:
        """Pass the bytes that may pass. Return the time of the next run; None if no bytes wait."""
        asleep, turns, total = self._asleep, self._turns, self._total
        while asleep and asleep[0][0] <= now:
            turns.append(heapq.heappop(asleep)[2])
        while turns:
            queue = turns[0]
            flow = queue.first()
            if flow is None:
                turns.popleft().queued = False
                continue
            size = min(flow.waiting, self._turn)
            if total is not None and not total.has(size, now):
                ready_at = total.ready_at(size)
                return min(ready_at, asleep[0][0]) if asleep else ready_at
            turns.popleft()
            bucket = queue.bucket
            if bucket is not None and not bucket.has(size, now):
                self._serial += 1
                heapq.heappush(asleep, (bucket.ready_at(size), self._serial, queue))
                continue
            if bucket is not None:
                bucket.spend(size)
            if total is not None:
                total.spend(size)
            flow.waiting -= size
            queue.flows.rotate(-1)
            turns.append(queue)
            flow.passed(size)
        return asleep[0][0] if asleep else None


def burst_of(rate: float) -> float:
    """Return the bytes that may pass at once after a pause: 0.2 s of the rate, at least 16 KiB."""
    return max(rate * BURST_SECONDS, MIN_BURST_BYTES)


def turn_of(rate: float) -> int:
    """Return the bytes of one turn. Turns are small at a low rate, so that bytes move steadily."""
    return int(min(max(rate * TURN_SECONDS, MIN_TURN_BYTES), MAX_TURN_BYTES))
