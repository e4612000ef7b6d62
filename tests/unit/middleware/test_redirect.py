"""Tests of zerotrust.middleware.redirect."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.middleware.policy_runner import policy, request, run
from zerotrust.http import grammar


def location(pattern: str, target: str, method: str = "GET") -> str:
    answer = run(
        policy(("redirect", {"location": pattern, "status": 308})),
        request(target=target, method=method),
    )
    assert answer is not None
    assert answer.status == 308
    assert re.fullmatch(grammar.LINES, answer.lines)
    return answer.lines.decode().removeprefix("Location: ").removesuffix("\r\n")


@pytest.mark.parametrize(
    ("pattern", "target", "expected"),
    [
        ("https://{host}{uri}", "/a?b=c", "https://app.example.com/a?b=c"),
        ("https://new.example{path}", "/a?b=c", "https://new.example/a"),
        ("/fixed", "/a", "/fixed"),
        ("{uri}", "//evil.example", "/evil.example"),
        ("{uri}", "/\\evil.example", "/evil.example"),
        ("{path}/", "///evil.example?x", "/evil.example/"),
        (
            "https://{host}{uri}",
            "/a%0d%0aSet-Cookie:x",
            "https://app.example.com/a%0d%0aSet-Cookie:x",
        ),
        ("https://{host}{uri}", "/{path}{host}", "https://app.example.com/{path}{host}"),
        ("https://{host}{uri}", "/é%e9?\x85", "https://app.example.com/%E9%e9?%85"),
    ],
)
def test_placeholders_are_filled_in(pattern: str, target: str, expected: str) -> None:
    assert location(pattern, target) == expected


def test_the_target_star() -> None:
    assert location("https://{host}{uri}", "*", "OPTIONS") == "https://app.example.com/"


def test_the_default_status() -> None:
    answer = run(policy(("redirect", {"location": "/x"})), request())
    assert answer is not None and answer.status == 302


@given(st.text(st.sampled_from("/\\.%2f5c?@:evil*"), max_size=20))
def test_no_target_leads_to_another_host(target: str) -> None:
    assert not re.match(r"[/\\]{2}|[a-z]+:", location("{uri}", "/" + target))
