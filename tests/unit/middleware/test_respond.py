"""Tests of zerotrust.middleware.respond."""

from tests.unit.middleware.policy_runner import policy, request, run
from zerotrust.middleware.interface import Answer


def test_a_fixed_response() -> None:
    found = policy(
        ("respond", {"status": 503, "body": "back at nöon", "headers": {"Retry-After": 60}})
    )
    answer = run(found, request())
    assert answer == Answer(
        503,
        b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options:"
        b" nosniff\r\nRetry-After: 60\r\n",
        "back at nöon".encode(),
    )


def test_a_content_type_of_its_own() -> None:
    found = policy(("respond", {"body": "{}", "headers": {"content-type": "application/json"}}))
    answer = run(found, request())
    assert answer is not None
    assert answer.lines == b"X-Content-Type-Options: nosniff\r\ncontent-type: application/json\r\n"


def test_a_response_without_body() -> None:
    assert run(policy(("respond", {"status": 204})), request()) == Answer(204)
