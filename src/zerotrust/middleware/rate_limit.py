"""`rate_limit`: limits the rate of requests.

Responses have the headers of draft-ietf-httpapi-ratelimit-headers-10. A worker says in them what it
enforces itself: its share of the rate.
"""

import hashlib
import math

from zerotrust.limits.client_network import network_of
from zerotrust.limits.gcra import CellRate
from zerotrust.middleware.client_address import UNREADABLE
from zerotrust.middleware.header_edits import Edit
from zerotrust.middleware.interface import Answer, Request
from zerotrust.model.middleware_settings import RateLimitConfig
from zerotrust.model.rates import parse_rate
from zerotrust.model.workers import share
from zerotrust.routing.match import folded, values_of


class RateLimitMiddleware:
    """Handler that counts requests by key.

    Args:
        workers: number of processes that share the rate.

    Attributes:
        rate: the rate limiter.
    """

    __slots__ = ("_by_service", "_field", "_policy", "rate")

    def __init__(self, config: RateLimitConfig, workers: int = 1) -> None:
        count, seconds = parse_rate(config.rate)
        self.rate = CellRate(count, seconds * workers, share(config.burst or count, workers))
        common = math.gcd(count, workers)
        self._policy = b'RateLimit-Policy: "default";q=%d;w=%d\r\n' % (
            count // common,
            seconds * workers // common,
        )
        self._by_service = config.key == "service"
        self._field = (
            folded(config.key.removeprefix("header:").encode()) if ":" in config.key else None
        )

    def request(self, request: Request, now: float) -> Answer | None:
        edits = request.counted.get(self)
        if edits is not None:
            request.response_edits += edits
            return None
        key = self._key(request)
        if key is None:
            return UNREADABLE
        early = self.rate.take(key, now)
        wait = self.rate.wait(early)
        if wait:
            lines = b"Retry-After: %d\r\n%b%b" % (wait, self._policy, _state(0, wait))
            return Answer(
                429, lines, code="rate_limited", message=f"too many requests; try again in {wait} s"
            )
        state = _state(self.rate.left(early), math.ceil(early))
        edits = [Edit(b"ratelimit-policy", self._policy, True), Edit(b"ratelimit", state, True)]
        request.counted[self] = edits
        request.response_edits += edits
        return None

    def _key(self, request: Request) -> bytes | None:
        """Return the key of a request; None if it is the client's address and that is unknown."""
        if self._by_service:
            return b""
        if self._field is not None:
            values = values_of(self._field, request.fields)
            if values:
                # A fixed length, whatever the client sends; "#" keeps it apart from addresses.
                return b"#" + hashlib.blake2b(b"\n".join(values), digest_size=16).digest()
        return network_of(request.client) or None


def _state(left: int, seconds: int) -> bytes:
    return b'RateLimit: "default";r=%d;t=%d\r\n' % (left, seconds)
