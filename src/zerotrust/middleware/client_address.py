"""Refusal of requests whose client address is unreadable.

The proxy in front sent something that is not an address. Handlers that need the address answer 400;
services without such handlers are not affected.
"""

from typing import Final

from zerotrust.errors import ClientAddressUnreadable
from zerotrust.middleware.interface import Answer, Request

UNREADABLE: Final = Answer(
    ClientAddressUnreadable.status,
    code=ClientAddressUnreadable.code,
    message="the proxy in front sent an unreadable client address, which this service needs",
)


class RequireClientAddress:
    """Refuses requests without a readable client address."""

    __slots__ = ()

    def request(self, request: Request, now: float) -> Answer | None:
        return None if request.client else UNREADABLE
