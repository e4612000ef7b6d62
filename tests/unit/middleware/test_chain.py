"""Tests of zerotrust.middleware.chain."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.middleware.policy_runner import request, returned
from zerotrust.middleware.chain import MiddlewareChain
from zerotrust.middleware.cors import CorsMiddleware
from zerotrust.middleware.header_edits import set_field
from zerotrust.middleware.interface import (
    Answer,
    Middleware,
    NeedsVerification,
    Request,
    Verification,
)
from zerotrust.model.middleware_settings import CorsConfig


class Scripted:
    """Handler with a given result that records its calls."""

    def __init__(self, word: str, log: list[str]) -> None:
        self.word = word
        self.log = log

    def request(self, request: Request, now: float) -> Answer | NeedsVerification | None:
        self.log.append(self.word)
        if self.word == "mark":
            request.response_edits.append(set_field("X-Mark", ["1"]))
        if self.word == "wait":
            return NeedsVerification(self, Verification(b"", lambda: True))
        return Answer(403, b"A: b\r\n") if self.word == "refuse" else None

    def verified(
        self, verification: Verification, result: bool | None, request: Request, now: float
    ) -> Answer | None:
        return None if result else Answer(401)


def chain(words: Sequence[str]) -> tuple[MiddlewareChain, list[str]]:
    log: list[str] = []
    handlers: list[Middleware] = [Scripted(word, log) for word in words]
    return MiddlewareChain(handlers), log


def test_an_empty_chain_passes_every_request() -> None:
    assert MiddlewareChain(()).run(request(), 0) is None
    assert MiddlewareChain(()).handlers == ()


WORDS = st.lists(st.sampled_from(["pass", "mark", "wait", "refuse"]), max_size=6)


@given(WORDS)
def test_handlers_run_in_order_until_the_first_answer(words: list[str]) -> None:
    found, log = chain(words)
    asked = request()
    answer = found.run(asked, 0)
    while isinstance(answer, NeedsVerification):
        assert answer.verification.run()
        answer = found.resume(answer, True, asked, 0)
    end = words.index("refuse") + 1 if "refuse" in words else len(words)
    assert log == words[:end]
    if answer is None:
        assert "refuse" not in words
    else:
        marked = "mark" in words[:end]
        assert answer.lines == (b"A: b\r\nX-Mark: 1\r\n" if marked else b"A: b\r\n")


CORS = CorsConfig(origins=["https://app.example"])
ALLOWED = b"Access-Control-Allow-Origin: https://app.example\r\nVary: Origin\r\n"


@pytest.mark.parametrize("place", [0, 1])
def test_a_refusal_has_the_cors_headers(place: int) -> None:
    """Also before the CORS handler: without the headers a script would see no status."""
    handlers: list[Middleware] = [Scripted("refuse", [])]
    handlers.insert(place, CorsMiddleware(CORS))
    found = MiddlewareChain(handlers)
    assert found.run(request("Origin: https://app.example"), 0) == Answer(
        403, b"A: b\r\n" + ALLOWED
    )
    assert found.run(request("Origin: https://evil.example"), 0) == Answer(
        403, b"A: b\r\nVary: Origin\r\n"
    )


def test_the_answer_to_a_preflight_is_complete() -> None:
    other = CorsConfig(origins=["https://other.example"])
    asked = request(
        "Origin: https://app.example", "Access-Control-Request-Method: PUT", method="OPTIONS"
    )
    answer = MiddlewareChain([CorsMiddleware(CORS), CorsMiddleware(other)]).run(asked, 0)
    alone = MiddlewareChain([CorsMiddleware(CORS)]).run(asked, 0)
    assert isinstance(answer, Answer) and isinstance(alone, Answer)
    assert (answer.status, answer.lines) == (204, alone.lines)


def test_a_refusal_keeps_its_content_headers() -> None:
    class Edits:
        def request(self, request: Request, now: float) -> None:
            request.response_edits += [
                set_field("Cache-Control", ["public"]),
                set_field("X-Frame-Options", ["DENY"]),
            ]

    for code, lines in (
        ("no", b"X-Frame-Options: DENY\r\n"),
        ("", b"Cache-Control: public\r\nX-Frame-Options: DENY\r\n"),
    ):

        class Says:
            def request(self, request: Request, now: float) -> Answer:
                return Answer(403, code=code)  # noqa: B023 - asked at once

        assert MiddlewareChain([Edits(), Says()]).run(request(), 0) == Answer(403, lines, code=code)


def test_a_failed_verification_ends_the_chain() -> None:
    found, log = chain(["mark", "wait", "pass"])
    asked = request()
    answer = found.run(asked, 0)
    assert isinstance(answer, NeedsVerification)
    assert found.resume(answer, False, asked, 0) == Answer(401, b"X-Mark: 1\r\n")
    assert log == ["mark", "wait"]


def preflight(origin: str) -> Request:
    return request(f"Origin: {origin}", "Access-Control-Request-Method: PUT", method="OPTIONS")


def test_only_cors_handlers_are_asked_for_the_origin() -> None:
    log: list[str] = []
    found = MiddlewareChain([Scripted("refuse", log), CorsMiddleware(CORS)])
    answer = found.ask_origin(preflight("https://app.example"))
    assert answer is not None
    assert answer.status == 204
    answer = found.ask_origin(preflight("https://evil.example"))
    assert answer is not None
    assert (answer.status, answer.code) == (403, "origin_refused")
    assert log == []


def test_a_request_from_an_allowed_origin_gets_the_cors_headers_of_its_refusal() -> None:
    asked = request("Origin: https://app.example")
    assert MiddlewareChain([CorsMiddleware(CORS)]).ask_origin(asked) is None
    assert returned(asked) == ALLOWED
