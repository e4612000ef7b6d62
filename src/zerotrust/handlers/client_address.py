"""Requests of clients whose address is not known, because the proxy in front did not say it in a way that can be read.

They are not taken for requests of the proxy, and not for those of one client: whatever asks for the address refuses
them. Where nothing asks, they are served.
"""

from typing import Final

from zerotrust.errors import ClientAddressUnreadable
from zerotrust.handlers.protocol import Answer, Request

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
