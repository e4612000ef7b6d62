"""HTTP responses for the answers of middleware."""

from typing import Final

from zerotrust.http.error_responses import error_reply, reason_phrase
from zerotrust.middleware.interface import Answer

_WITHOUT_LENGTH: Final = (204, 304)  # RFC 9110 s8.6 and s15.4.5


def answer_reply(answer: Answer, *, request_id: str, close: bool, head_only: bool) -> bytes:
    """Return the bytes of the response for an answer.

    A refusal gets the error page of 0Trust. `head_only` leaves out the body, for a HEAD request.
    """
    if answer.code:
        page = error_reply(
            answer.status,
            code=answer.code,
            hop="server",
            message=answer.message,
            request_id=request_id,
            close=close,
            head_only=head_only,
            retry_after=None,
        )
        head, _, body = page.partition(b"\r\n\r\n")
        start, *lines = head.splitlines(True)
        own = {line.partition(b":")[0].lower() for line in answer.lines.splitlines()}
        kept = b"".join(line for line in lines if line.partition(b":")[0].lower() not in own)
        return b"%b%b\r\n%b\r\n%b" % (start, kept.removesuffix(b"\r\n"), answer.lines, body)
    length = (
        b"" if answer.status in _WITHOUT_LENGTH else b"Content-Length: %d\r\n" % len(answer.body)
    )
    return b"HTTP/1.1 %d %b\r\n%b%b%b\r\n%b" % (
        answer.status,
        reason_phrase(answer.status).encode(),
        answer.lines,
        length,
        b"Connection: close\r\n" if close else b"",
        b"" if head_only else answer.body,
    )
