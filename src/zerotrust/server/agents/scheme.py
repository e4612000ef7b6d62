"""Over which of http and https a service is offered, and where to send those who ask over the other.

Caddy's configuration says nothing of it: both of its ports lead here with the scheme in `X-Forwarded-Proto`, which
Caddy sets itself and takes from nobody. So a service that changes its mind changes nothing in Caddy.
"""

from dataclasses import dataclass
from typing import Self

from zerotrust.http.head import RequestHead
from zerotrust.middleware.interface import Answer
from zerotrust.tunnel.messages import Register


@dataclass(frozen=True, slots=True)
class OfferedSchemes:
    """How one service is offered.

    Attributes:
        http, https: requests that come this way are forwarded.
        redirect: requests over http are sent to https.
    """

    http: bool = False
    https: bool = True
    redirect: bool = True

    @classmethod
    def of(cls, message: Register) -> Self:
        """What the agent asks for. A redirect to an https that there is not is none."""
        https = message.listen_on != "http"
        redirect = message.http_redirect and https
        return cls(
            http=message.listen_on != "https" and not redirect, https=https, redirect=redirect
        )


USUAL = OfferedSchemes()
"""Of a service that says nothing: https, to which http is redirected."""


def to_https(head: RequestHead, port: int) -> Answer:
    """The way to the same target over https at `port`.

    301 lets browsers make a GET of a POST (RFC 9110 s15.4.2); 308 keeps method and body.
    """
    status = 301 if head.method in (b"GET", b"HEAD") else 308
    authority = head.fields.host if port == 443 else f"{head.fields.host}:{port}"
    path = b"" if head.target == b"*" else head.target
    return Answer(status, b"Location: https://%b%b\r\n" % (authority.encode(), path))
