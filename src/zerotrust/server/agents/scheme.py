"""Schemes of a service: http, https or both, and the redirect from http to https.

Caddy forwards the requests of both its ports and sets the scheme in `X-Forwarded-Proto` itself. So
a service can change its schemes without a new configuration for Caddy.
"""

from dataclasses import dataclass
from typing import Self

from zerotrust.http.head import RequestHead
from zerotrust.middleware.interface import Answer
from zerotrust.middleware.redirect import ascii_uri
from zerotrust.tunnel.messages import Register


@dataclass(frozen=True, slots=True)
class OfferedSchemes:
    """Schemes over which a service is offered.

    Attributes:
        http, https: requests over this scheme are forwarded.
        redirect: requests over http are sent to https.
    """

    http: bool = False
    https: bool = True
    redirect: bool = True

    @classmethod
    def of(cls, message: Register) -> Self:
        """Return the schemes in a registration; without https there is no redirect to it."""
        https = message.listen_on != "http"
        redirect = message.http_redirect and https
        return cls(
            http=message.listen_on != "https" and not redirect, https=https, redirect=redirect
        )


USUAL = OfferedSchemes()
"""Default: https, to which http is redirected."""


def to_https(head: RequestHead, port: int) -> Answer:
    """Return a redirect to the same target over https at `port`.

    301 lets browsers turn a POST into a GET (RFC 9110 s15.4.2); 308 keeps method and body.
    """
    status = 301 if head.method in (b"GET", b"HEAD") else 308
    authority = head.fields.host if port == 443 else f"{head.fields.host}:{port}"
    path = b"" if head.target == b"*" else ascii_uri(head.target)
    return Answer(status, b"Location: https://%b%b\r\n" % (authority.encode(), path))
