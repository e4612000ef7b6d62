"""Tests of zerotrust.middleware.header_rules."""

from tests.unit.middleware.policy_runner import forwarded, policy, request, returned, run


def test_edits_of_request_and_response() -> None:
    found = policy(
        (
            "headers",
            {
                "request": {"set": {"X-A": "1"}, "add": {"X-B": ["2", "3"]}, "delete": ["Cookie"]},
                "response": {"set": {"X-Frame-Options": "DENY"}, "delete": ["Server"]},
            },
        )
    )
    asked = request("X-A: evil", "Cookie: a", "X-B: 1", "x_a: evil")
    assert run(found, asked) is None
    assert forwarded(asked) == b"X-B: 1\r\nX-A: 1\r\nX-B: 2\r\nX-B: 3\r\n"
    assert (
        returned(asked, b"Server: x\r\nx-frame-options: ALLOW\r\n") == b"X-Frame-Options: DENY\r\n"
    )


def test_deleted_before_set() -> None:
    found = policy(
        ("headers", {"request": {"delete": ["A"], "set": {"A": "1"}, "add": {"A": "2"}}})
    )
    asked = request("A: 0")
    assert run(found, asked) is None
    assert forwarded(asked) == b"A: 1\r\nA: 2\r\n"


def test_edits_of_two_handlers_add_up() -> None:
    first = ("headers", {"request": {"set": {"A": "1"}}})
    second = ("headers", {"request": {"add": {"A": "2"}}})
    asked = request()
    assert run(policy(first, second), asked) is None
    assert forwarded(asked) == b"A: 1\r\nA: 2\r\n"
