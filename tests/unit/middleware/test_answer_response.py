"""Tests of zerotrust.middleware.answer_response."""

import pytest

from tests.unit.middleware.policy_runner import policy, request, run
from tests.unit.model.test_middleware import GOOD
from zerotrust.http.head import ResponseHead, parse_response
from zerotrust.middleware.answer_response import answer_reply
from zerotrust.middleware.interface import Answer


def reply(
    answer: Answer, *, close: bool = False, head_only: bool = False
) -> tuple[ResponseHead, bytes]:
    raw = answer_reply(answer, request_id="r-1", close=close, head_only=head_only)
    head, _, body = raw.partition(b"\r\n\r\n")
    parsed = parse_response(head + b"\r\n\r\n")
    if not head_only:
        assert (parsed.content_length or 0) == len(body)
    return parsed, body


def test_the_response_of_a_regular_answer() -> None:
    head, body = reply(Answer(200, b"A: b\r\n", b"hello"))
    assert (head.status, head.reason, head.lines, head.content_length) == (
        200,
        b"OK",
        b"A: b\r\n",
        5,
    )
    assert body == b"hello"
    assert head.keep_alive
    assert not reply(Answer(200), close=True)[0].keep_alive


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_body_have_no_length(status: int) -> None:
    raw = answer_reply(Answer(status), request_id="r-1", close=False, head_only=False)
    assert raw.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in raw


def test_a_response_to_head_has_no_body() -> None:
    for answer in (Answer(200, body=b"hello"), Answer(403, code="ip_refused", message="no")):
        head, body = reply(answer, head_only=True)
        assert body == b""
        assert head.content_length


def test_a_refusal_says_why() -> None:
    answer = Answer(
        429,
        b"Retry-After: 7\r\nCache-Control: private\r\n",
        code="rate_limited",
        message="too many",
    )
    head, body = reply(answer, close=True)
    assert head.status == 429
    assert b"X-0Trust-Error: rate_limited\r\n" in head.lines
    assert b"Retry-After: 7\r\n" in head.lines
    assert head.lines.lower().count(b"cache-control") == 1
    assert b"Cache-Control: private\r\n" in head.lines
    assert b"too many\n" in body and b"request id: r-1" in body
    assert not head.keep_alive


def test_a_status_without_a_name() -> None:
    assert reply(Answer(299))[0].reason == b""


@pytest.mark.parametrize(("kind", "config"), GOOD)
def test_every_answer_can_be_written(kind: str, config: dict[str, object]) -> None:
    if kind == "basic_auth":
        return
    answer = run(
        policy((kind, config)),
        request("Origin: https://x", "Access-Control-Request-Method: X", method="OPTIONS"),
    )
    if answer is not None:
        assert reply(answer)[0].status == answer.status
