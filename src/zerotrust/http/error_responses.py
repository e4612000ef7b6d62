"""Error responses of 0Trust itself: plain text that says what failed, and at which hop."""

import re
from http import HTTPStatus
from typing import Final

_NOT_PRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def error_reply(  # noqa: PLR0913 - keyword arguments
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
    """Return a complete error response.

    Args:
        head_only: leave the body out, to answer HEAD.
    """
    reason = reason_phrase(status) or "Error"
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


def reason_phrase(status: int) -> str:
    """Return the reason phrase of a status code; empty if the code is not registered."""
    return _PHRASES.get(status, "")


def _printable(text: str) -> str:
    """Return the text as one line of printable ASCII, safe in a field and in a terminal."""
    if not (text.isascii() and text.isprintable()):
        text = _NOT_PRINTABLE.sub("?", text)
    return text.strip()
