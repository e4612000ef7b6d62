from hypothesis import given
from hypothesis import strategies as st

from zerotrust.http.error_responses import error_reply
from zerotrust.http.head import parse_response


def reply(status: int = 502, **changes: object) -> bytes:
    said = {
        "code": "upstream_failed",
        "hop": "backend",
        "message": "the backend closed the connection",
        "request_id": "01J",
        "close": False,
        "head_only": False,
        "retry_after": None,
    }
    return error_reply(status, **(said | changes))  # type: ignore[arg-type]


def test_the_page_names_hop_and_request() -> None:
    head, _, body = reply().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"\r\nX-0Trust-Error: upstream_failed\r\n" in head + b"\r\n"
    assert b"\r\nCache-Control: no-store\r\n" in head
    assert b"backend" in body
    assert b"01J" in body
    assert b"Connection" not in head
    assert b"Retry-After" not in head


def test_head_gets_the_fields_and_no_body() -> None:
    assert reply(head_only=True) == reply().partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def test_close_and_retry_after() -> None:
    head = reply(503, close=True, retry_after=5)
    assert b"\r\nConnection: close\r\n" in head
    assert b"\r\nRetry-After: 5\r\n" in head


def test_a_status_without_a_name() -> None:
    assert reply(599).startswith(b"HTTP/1.1 599 Error\r\n")


@given(st.text(), st.text(), st.text(), st.text())
def test_unsafe_texts_cannot_break_the_message(
    code: str, hop: str, message: str, request_id: str
) -> None:
    raw = reply(code=code, hop=hop, message=message, request_id=request_id)
    head, _, body = raw.partition(b"\r\n\r\n")
    parsed = parse_response(head + b"\r\n\r\n")
    assert parsed.content_length == len(body)
    assert parsed.lines.count(b"\r\n") == 4
    assert body.count(b"\n") == 4
