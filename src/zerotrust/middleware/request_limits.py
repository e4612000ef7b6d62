"""Limits of a service: size of request bodies, number of upgraded connections.

They run after all other handlers of a route, so an unauthorized client is refused first.
"""

from typing import Final, Protocol

from zerotrust.limits.client_network import network_of
from zerotrust.middleware.client_address import UNREADABLE
from zerotrust.middleware.interface import Answer, Request

UNLIMITED: Final = -1
"""In place of a number of bytes."""

_LATER: Final = b"Retry-After: 5\r\n"
_SERVICE_FULL: Final = Answer(
    503,
    _LATER,
    code="websocket_limit",
    message="the service has reached its limit of WebSockets; try again later",
)
_CLIENT_FULL: Final = Answer(
    429,
    _LATER,
    code="websocket_limit",
    message="this client has reached its limit of WebSockets; close one first",
)
_USER_FULL: Final = Answer(
    429,
    _LATER,
    code="websocket_limit",
    message="you have reached your limit of WebSockets; close one first",
)


class BodyLimit:
    """Answers 413 to a request that announces a larger body.

    A body without announced length is counted while it is forwarded.
    """

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
    """An upgraded connection."""

    @property
    def done(self) -> bool:
        """Return True if it has ended in both directions."""


class UpgradeLimit:
    """Limits the concurrent upgraded connections of a service, of each client and of each user.

    Args:
        before: the limit that this one replaces. Its open connections stay open and count.
        per_user: for users, machines and the like whom the server's rules have let in.

    Attributes:
        open: the client, the user and the connection of each upgrade, until it is found ended.
    """

    __slots__ = ("_per_client", "_per_user", "_total", "open")

    def __init__(
        self,
        total: int | None,
        per_client: int | None,
        before: "UpgradeLimit | None" = None,
        *,
        per_user: int | None = None,
    ) -> None:
        self._total = total
        self._per_client = per_client
        self._per_user = per_user
        self.open: list[tuple[bytes, str, UpgradedConnection]] = (
            before.open if before is not None else []
        )

    def request(self, request: Request, now: float) -> Answer | None:
        if request.fields.upgrade is None:
            return None
        self.open[:] = [entry for entry in self.open if not entry[2].done]
        if self._total is not None and len(self.open) >= self._total:
            return _SERVICE_FULL
        if self._per_client is not None:
            network = network_of(request.client)
            if not network:
                return UNREADABLE
            if sum(other == network for other, _, _ in self.open) >= self._per_client:
                return _CLIENT_FULL
        if self._per_user is not None and request.who is not None:
            user = request.who.subject.id
            if sum(other == user for _, other, _ in self.open) >= self._per_user:
                return _USER_FULL
        return None

    def opened(self, client: bytes, connection: UpgradedConnection, user: str = "") -> None:
        """Count an upgraded connection whose request was passed.

        Args:
            user: id of the subject; empty without one.
        """
        self.open.append((network_of(client), user, connection))
