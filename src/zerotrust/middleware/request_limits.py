"""What a service takes at most: bytes of a request, and connections that were upgraded.

These stand behind all other handlers of a route: who may not enter is told so first.
"""

from typing import Final, Protocol

from zerotrust.limits.client_network import network_of
from zerotrust.middleware.client_address import UNREADABLE
from zerotrust.middleware.interface import Answer, Request

UNLIMITED: Final = -1
"""In place of a number of bytes."""

_LATER: Final = b"Retry-After: 5\r\n"
_SERVICE_FULL: Final = Answer(
    503, _LATER, code="websocket_limit", message="the service has reached its limit of WebSockets; try again later"
)
_CLIENT_FULL: Final = Answer(
    429, _LATER, code="websocket_limit", message="this client has reached its limit of WebSockets; close one first"
)


class BodyLimit:
    """Answers 413 to a request that announces more than `most` bytes. Whoever forwards a body counts the others."""

    __slots__ = ("_refusal", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._refusal = Answer(
            413,
            code="body_too_large",
            message=f"the request body is too large; the service accepts {max_bytes} bytes",
        )

    def request(self, request: Request, now: float) -> Answer | None:
        length = request.fields.content_length
        return self._refusal if length is not None and length > self.max_bytes else None


class UpgradedConnection(Protocol):
    """What is open until it is done."""

    @property
    def done(self) -> bool:
        """It has ended, in both directions."""


class UpgradeLimit:
    """Counts the upgraded connections of a service, and those that are about to be: of all clients, and of each.

    Args:
        before: what counted until now. The connections that it knows stay open and count on.
    """

    __slots__ = ("_open", "_per_client", "_total")

    def __init__(self, total: int | None, per_client: int | None, before: "UpgradeLimit | None" = None) -> None:
        self._total = total
        self._per_client = per_client
        self._open: list[tuple[bytes, UpgradedConnection]] = before._open if before is not None else []

    def request(self, request: Request, now: float) -> Answer | None:
        if request.fields.upgrade is None:
            return None
        self._open[:] = [entry for entry in self._open if not entry[1].done]
        if self._total is not None and len(self._open) >= self._total:
            return _SERVICE_FULL
        if self._per_client is not None:
            network = network_of(request.client)
            if not network:
                return UNREADABLE
            if sum(other == network for other, _ in self._open) >= self._per_client:
                return _CLIENT_FULL
        return None

    def opened(self, client: bytes, connection: UpgradedConnection) -> None:
        """A request for an upgrade that was let pass goes on as `connection`."""
        self._open.append((network_of(client), connection))
