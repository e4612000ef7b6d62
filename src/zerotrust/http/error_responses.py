"""The responses that 0Trust gives in its own name: one line that says which hop failed, for people and their logs."""

import re
from http import HTTPStatus
from typing import Final

_NOT_PRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


def error_reply(  # noqa: PLR0913 - what a reply says, each by name
    status: int,
    *,
    code: str,
    hop: str,
    message: str,
    request_id: str,
    close: bool,
    head_only: bool,
    retry_after: int | None,
) -> bytes:
    """A whole response. `head_only` answers HEAD: all fields, no body."""
    reason = _reason(status)
    body = f"{status} {reason}\n{_printable(message)}\nfailed at: {_printable(hop)}\n"
    body += f"request id: {_printable(request_id)}\n"
    head = (
        f"HTTP/1.1 {status} {reason}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        f"X-0Trust-Error: {_printable(code)}\r\n"
    )
    if retry_after is not None:
        head += f"Retry-After: {retry_after}\r\n"
    if close:
        head += "Connection: close\r\n"
    return (head + "\r\n" + ("" if head_only else body)).encode("ascii")


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _printable(text: str) -> str:
    """The text in one line of ASCII, so that it can stand in a field and in a terminal."""
    return _NOT_PRINTABLE.sub("?", text).strip()
