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
_OF_SERVICE: Final = Answer(503, _LATER, code="websocket_limit", message="the service has all the WebSockets it takes")
_OF_CLIENT: Final = Answer(
    429, _LATER, code="websocket_limit", message="this client has all the WebSockets it may have"
)


class BodyLimit:
    """Answers 413 to a request that announces more than `most` bytes. Whoever forwards a body counts the others."""

    __slots__ = ("_refusal", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        message = f"the service takes {most} bytes with a request"
        self._refusal = Answer(413, code="body_too_large", message=message)

    def request(self, request: Request, now: float) -> Answer | None:
        length = request.fields.content_length
        return self._refusal if length is not None and length > self.most else None


class Ending(Protocol):
    """What is open until it is done."""

    @property
    def done(self) -> bool:
        """It has ended, in both directions."""


class Upgrades:
    """Counts the upgraded connections of a service, and those that are about to be: of all clients, and of each.

    Args:
        before: what counted until now. The connections that it knows stay open and count on.
    """

    __slots__ = ("_most", "_of_client", "_open")

    def __init__(self, most: int | None, of_client: int | None, before: "Upgrades | None" = None) -> None:
        self._most = most
        self._of_client = of_client
        self._open: list[tuple[bytes, Ending]] = before._open if before is not None else []

    def request(self, request: Request, now: float) -> Answer | None:
        if request.fields.upgrade is None:
            return None
        self._open[:] = [entry for entry in self._open if not entry[1].done]
        if self._most is not None and len(self._open) >= self._most:
            return _OF_SERVICE
        if self._of_client is not None:
            network = network_of(request.client)
            if not network:
                return UNREADABLE
            if sum(other == network for other, _ in self._open) >= self._of_client:
                return _OF_CLIENT
        return None

    def opened(self, client: bytes, connection: Ending) -> None:
        """A request for an upgrade that was let pass goes on as `connection`."""
        self._open.append((network_of(client), connection))
