"""Answer of the server to a ping at a public host name (`http.ping`)."""

from collections.abc import Iterable
from time import time
from typing import Final

from zerotrust.http.head import RequestHead
from zerotrust.http.ping import answer_body, nonce_of
from zerotrust.middleware.answer_response import answer_reply
from zerotrust.middleware.interface import Answer
from zerotrust.net.http_server import HttpServerConnection

_FIELDS: Final = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"


def answer_ping(
    connection: HttpServerConnection, head: RequestHead, roots: Iterable[bytes]
) -> bool:
    """Answer a request if it is a ping; return False if it is none.

    Args:
        roots: SHA-256 of the root certificates.
    """
    nonce = nonce_of(head.target)
    if nonce is None or head.method != b"GET" or head.fields.upgrade is not None:
        return False
    fields = head.fields
    lines = fields.lines + fields.spoofable
    body = answer_body(roots, fields.host, nonce, lines=lines, unix_time=time())
    close = not connection.reusable()
    reply = Answer(200, _FIELDS, body)
    connection.reply(answer_reply(reply, request_id="", close=close, head_only=False), close=close)
    return True
