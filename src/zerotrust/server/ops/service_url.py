"""URLs of services, as administrators write them."""

from typing import NamedTuple
from urllib.parse import quote, urlsplit

from zerotrust.errors import AccessError
from zerotrust.model.base import normalise_host

_KEPT = "/!$&'()*+,;=:@?%-._~[]|^`{}\"<>\\"
"""Characters that browsers send as they are; others are percent-encoded."""


class ServiceUrl(NamedTuple):
    """A URL of a service.

    Attributes:
        host: normalised host name.
        target: path and query, as a browser sends them.
    """

    host: str
    target: bytes


def parse_service_url(url: str) -> ServiceUrl:
    """Return the parts of a URL.

    Raises:
        AccessError: it is no https URL with a host name.
    """
    try:
        parts = urlsplit(url)
        host = normalise_host(parts.hostname or "")
    except ValueError:
        parts, host = None, ""
    if parts is None or parts.scheme != "https" or parts.username is not None:
        raise AccessError(
            f'"{url}" is no address of a service: write, for example,'
            f" https://{host or 'photos.example.com'}/album/7"
        )
    query = f"?{parts.query}" if parts.query else ""
    return ServiceUrl(host, quote((parts.path or "/") + query, safe=_KEPT).encode("ascii"))
