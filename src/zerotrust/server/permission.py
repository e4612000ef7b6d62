"""Caddy's question before it gets a certificate: is this host name served now, over https?

Without it anybody could make us ask for certificates of any name. Caddy asks `GET /.0trust/tls-permission?domain=NAME`
and goes on with status 200 only.
"""

from urllib.parse import parse_qs

from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead
from zerotrust.model.base import normalise_host
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.server.registry import Registry

PATH = "/.0trust/tls-permission"

_YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_NO = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


class Permission:
    """Answers Caddy (net.http_server.RequestHandler)."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def request(
        self, connection: HttpServerConnection, head: RequestHead, framing: tuple[Kind, int]
    ) -> RequestSink | None:
        connection.refuse(_YES if self._permits(head) else _NO, close=framing[0] is not Kind.NONE)
        return None

    def _permits(self, head: RequestHead) -> bool:
        path, _, query = head.target.decode("ascii").partition("?")
        names = parse_qs(query).get("domain", [])
        if head.method != b"GET" or path != PATH or len(names) != 1:
            return False
        try:
            return self._registry.offers_https(normalise_host(names[0]))
        except ValueError:
            return False
