"""Refusal of requests without a readable client address.

The proxy in front said something that is no address. Rules that need one answer 400; other services are not affected.
"""

from typing import Final

from zerotrust.errors import ClientAddressUnreadable
from zerotrust.middleware.interface import Answer, Request

UNREADABLE: Final = Answer(
    ClientAddressUnreadable.status,
    code=ClientAddressUnreadable.code,
    message="the service asks for the client's address, and the proxy in front did not say it in a readable form",
)


class RequireClientAddress:
    """Refuses requests whose client's address is not known."""

    __slots__ = ()

    def request(self, request: Request, now: float) -> Answer | None:
        return None if request.client else UNREADABLE
