"""Limits on requests for an upgrade: the pages that may make them, and their rate."""

from collections.abc import Sequence

from zerotrust.access.refusal import ORIGIN_REFUSED
from zerotrust.limits.client_network import network_of
from zerotrust.limits.gcra import CellRate
from zerotrust.middleware.client_address import UNREADABLE
from zerotrust.middleware.interface import Answer, Request
from zerotrust.model.rates import parse_rate
from zerotrust.model.workers import share
from zerotrust.routing.match import values_of

_REFUSED = Answer(
    403,
    code=ORIGIN_REFUSED,
    message="a page of this origin may not open WebSockets of the service",
)


class UpgradeOrigins:
    """Answers 403 to an upgrade that a page of another origin asks for.

    Browsers always say the origin of the page, and pages can't change it. A client that says none
    is no browser, and passes.

    Args:
        origins: origins besides that of the service itself.
    """

    __slots__ = ("_origins",)

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def request(self, request: Request, now: float) -> Answer | None:
        fields = request.fields
        if fields.upgrade is None:
            return None
        values = values_of(b"origin", fields)
        if not values:
            return None
        origin = values[0].lower()
        if len(values) == 1 and (origin in self._origins or _is_own(origin, request)):
            return None
        return _REFUSED


def _is_own(origin: bytes, request: Request) -> bool:
    """Return True if scheme, host and port of an origin are those of the request."""
    scheme, separator, host = origin.partition(b"://")
    if not separator or scheme != request.scheme:
        return False
    port = b":80" if scheme == b"http" else b":443"
    return host.removesuffix(port) == request.fields.host_field.lower().removesuffix(port)


class HandshakeLimit:
    """Answers 429 to upgrades that a client asks for too often.

    Args:
        rate: as written, such as `10/s`.
        workers: number of processes that share the rate.

    Attributes:
        rate: as written.
        cells: the rate limiter, by client network.
    """

    __slots__ = ("cells", "rate")

    def __init__(self, rate: str, workers: int = 1) -> None:
        count, seconds = parse_rate(rate)
        self.rate = rate
        self.cells = CellRate(count, seconds * workers, share(count, workers))

    @classmethod
    def of(cls, rate: str, before: "HandshakeLimit | None", workers: int = 1) -> "HandshakeLimit":
        """Return the limit; `before`, with its counts, where that has the same rate."""
        return before if before is not None and before.rate == rate else cls(rate, workers)

    def request(self, request: Request, now: float) -> Answer | None:
        if request.fields.upgrade is None or self in request.counted:
            return None
        network = network_of(request.client)
        if not network:
            return UNREADABLE
        wait = self.cells.wait(self.cells.take(network, now))
        if wait:
            return Answer(
                429,
                b"Retry-After: %d\r\n" % wait,
                code="rate_limited",
                message=f"too many WebSocket handshakes; try again in {wait} s",
            )
        request.counted[self] = []
        return None
