"""Tests of zerotrust.handlers.chain."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.handlers.asking import request
from zerotrust.handlers.chain import Chain
from zerotrust.handlers.edits import set_field
from zerotrust.handlers.protocol import Answer, Handler, Pending, Request, Verification


class Scripted:
    """Says what it was told to say, and notes that it was asked."""

    def __init__(self, word: str, log: list[str]) -> None:
        self.word = word
        self.log = log

    def request(self, request: Request, now: float) -> Answer | Pending | None:
        self.log.append(self.word)
        if self.word == "mark":
            request.response_edits.append(set_field("X-Mark", ["1"]))
        if self.word == "wait":
            return Pending(self, Verification(b"", lambda: True))
        return Answer(403, b"A: b\r\n") if self.word == "refuse" else None

    def verified(self, verification: Verification, result: bool, request: Request, now: float) -> Answer | None:
        return None if result else Answer(401)


def chain(words: Sequence[str]) -> tuple[Chain, list[str]]:
    log: list[str] = []
    handlers: list[Handler] = [Scripted(word, log) for word in words]
    return Chain(handlers), log


def test_nothing_to_ask() -> None:
    assert Chain(()).run(request(), 0) is None
    assert Chain(()).handlers == ()


WORDS = st.lists(st.sampled_from(["pass", "mark", "wait", "refuse"]), max_size=6)


@given(WORDS)
def test_in_order_up_to_the_first_answer(words: list[str]) -> None:
    found, log = chain(words)
    asked = request()
    said = found.run(asked, 0)
    while isinstance(said, Pending):
        assert said.verification.run()
        said = found.resume(said, True, asked, 0)
    end = words.index("refuse") + 1 if "refuse" in words else len(words)
    assert log == words[:end]
    if said is None:
        assert "refuse" not in words
    else:
        marked = "mark" in words[:end]
        assert said.lines == (b"A: b\r\nX-Mark: 1\r\n" if marked else b"A: b\r\n")


def test_a_verification_that_fails_ends_it() -> None:
    found, log = chain(["mark", "wait", "pass"])
    asked = request()
    said = found.run(asked, 0)
    assert isinstance(said, Pending)
    assert found.resume(said, False, asked, 0) == Answer(401, b"X-Mark: 1\r\n")
    assert log == ["mark", "wait"]
