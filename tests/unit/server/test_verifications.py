"""Tests of zerotrust.server.verifications."""

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from zerotrust.handlers.protocol import Verification
from zerotrust.net.tasks import Tasks
from zerotrust.server.verifications import Verifications

pytestmark = pytest.mark.anyio


class Question:
    """A question that is answered when the test says so, and how often it was asked."""

    def __init__(self, answer: bool = True) -> None:
        self.asked = 0
        self.threads: set[int] = set()
        self.may = threading.Event()
        self.answer = answer
        self.verification = Verification(b"digest", self.run)

    def run(self) -> bool:
        self.asked += 1
        self.threads.add(threading.get_ident())
        assert self.may.wait(10)
        return self.answer


async def heard(queue: "asyncio.Queue[bool]", count: int) -> list[bool]:
    async with asyncio.timeout(10):
        return [await queue.get() for _ in range(count)]


@pytest.mark.parametrize("answer", [True, False])
async def test_all_who_wait_hear_of_one_run(answer: bool) -> None:
    tasks, question, told = Tasks(), Question(answer), asyncio.Queue[bool]()
    verifications = Verifications(tasks)
    verifications.ask(question.verification, told.put_nowait)
    await asyncio.sleep(0)
    verifications.ask(question.verification, told.put_nowait)
    assert told.empty()
    question.may.set()
    assert await heard(told, 2) == [answer, answer]
    assert question.asked == 1
    assert threading.get_ident() not in question.threads
    verifications.ask(question.verification, told.put_nowait)
    assert await heard(told, 1) == [answer]
    assert question.asked == 2
    await tasks.close()


async def test_one_that_breaks_lets_nobody_pass() -> None:
    def broken() -> bool:
        raise MemoryError("too much")

    tasks, told = Tasks(), asyncio.Queue[bool]()
    with capture_logs() as logs:
        Verifications(tasks).ask(Verification(b"d", broken), told.put_nowait)
        assert await heard(told, 1) == [False]
    assert [entry["log_level"] for entry in logs] == ["error"]
    await tasks.close()
