"""Traffic shaping: how many of the bytes that wait may pass now. Sans-I/O.

Token buckets (RFC 2697 s3 has the arithmetic): a bucket fills at its rate and holds at most its burst; a byte that
passes takes a token. In any time t, at most rate * t + burst bytes pass. There is one bucket for all, and one for each
client; what passes takes from both.

Who carries the bytes holds back what may not pass yet, and stops its source meanwhile: nothing is queued or counted
here but numbers. Flows take turns of a few bytes. Where clients are limited, so do clients: two streams do not give a
client more than one, and a client whose bucket is empty holds up nobody else. The next turn waits for the tokens that
it needs, and nobody overtakes it: it always comes.
"""

import heapq
import math
from collections import deque
from typing import Final

from zerotrust.limits.client_network import network_of
from zerotrust.limits.ttl_cache import TtlCache

MAX_CLIENTS: Final = 16384
"""Buckets of clients; a client that is forgotten, because so many others came since, begins anew with a full one."""
BURST_SECONDS: Final = 0.2
MIN_BURST_BYTES: Final = 16 * 1024
TURN_SECONDS: Final = 0.05
MAX_TURN_BYTES: Final = 16 * 1024
MIN_TURN_BYTES: Final = 1024


class Bucket:
    """Tokens, one a byte.

    Args:
        rate: bytes a second.
        now: monotonic seconds, as everywhere here.
    """

    __slots__ = ("_at", "_rate", "_tokens", "burst")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self.burst = burst_of(rate)
        self._tokens = self.burst
        self._at = now

    def has(self, count: int, now: float) -> bool:
        """There are as many tokens, give or take a part of one: times are not exact."""
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens > count - 1

    def spend(self, count: int) -> None:
        """Take tokens."""
        self._tokens -= count

    def ready_at(self, count: int) -> float:
        """When there will be as many; `count` is at most the burst."""
        return self._at + (count - self._tokens) / self._rate


class ClientQueue:
    """The flows of one client, or of everybody, which take turns."""

    __slots__ = ("bucket", "flows", "queued")

    def __init__(self, bucket: Bucket | None) -> None:
        self.bucket = bucket
        self.flows: deque[Flow] = deque()
        self.queued = False

    def first(self) -> "Flow | None":
        """Whose turn it is; flows of which nothing waits any more are dropped."""
        flows = self.flows
        while flows and not flows[0].waiting:
            flows.popleft().queued = False
        return flows[0] if flows else None


class Flow:
    """One direction of one stream; `waiting` of its bytes wait. Who carries them says what `passed` does.

    Args:
        queue: `Shaper.queue` of the client.
    """

    __slots__ = ("queue", "queued", "waiting")

    def __init__(self, queue: ClientQueue) -> None:
        self.queue = queue
        self.waiting = 0
        self.queued = False

    def passed(self, count: int) -> None:
        """So many of the bytes that wait may go on. May call `Shaper.ask` and `Shaper.leave`; must not raise."""
        raise NotImplementedError


class Shaper:
    """One direction of one service.

    Args:
        total: bytes a second for all; None where that is not limited.
        per_client: bytes a second for each client.
    """

    __slots__ = ("_asleep", "_clients", "_shared_queue", "_per_client", "_serial", "_total", "_turn", "_turns")

    def __init__(self, *, total: float | None, per_client: float | None, now: float) -> None:
        self._total = Bucket(total, now) if total is not None else None
        self._per_client = per_client
        self._turn = min(turn_of(rate) for rate in (total, per_client) if rate is not None)
        self._shared_queue = ClientQueue(None)
        self._clients: TtlCache[ClientQueue] = TtlCache(MAX_CLIENTS)
        self._turns: deque[ClientQueue] = deque()
        self._asleep: list[tuple[float, int, ClientQueue]] = []
        self._serial = 0

    def queue_for(self, client: bytes, now: float) -> ClientQueue:
        """Where flows of the client with this address stand; of IPv6, all of a /64 are one client."""
        if self._per_client is None:
            return self._shared_queue
        key = network_of(client)
        queue = self._clients.get(key, now) or ClientQueue(Bucket(self._per_client, now))
        self._clients.put(key, queue, until=math.inf)
        return queue

    def enqueue(self, flow: Flow, count: int) -> None:
        """So many more bytes of the flow wait: `run` tells when they pass."""
        flow.waiting += count
        queue = flow.queue
        if not flow.queued:
            flow.queued = True
            queue.flows.append(flow)
        if not queue.queued:
            queue.queued = True
            self._turns.append(queue)

    def cancel(self, flow: Flow) -> None:
        """Nothing of the flow waits any more."""
        flow.waiting = 0

    def run(self, now: float) -> float | None:
        """Let pass what may; when to run again, None where nothing waits."""
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
    """Bytes that pass at once after a rest: a fifth of a second's worth, 16 KiB at least."""
    return max(rate * BURST_SECONDS, MIN_BURST_BYTES)


def turn_of(rate: float) -> int:
    """Bytes of one turn: little where the rate is low, so that something always moves."""
    return int(min(max(rate * TURN_SECONDS, MIN_TURN_BYTES), MAX_TURN_BYTES))
