"""Tests of zerotrust.server.agents.registration_queue: order and time slices."""

import asyncio
import time
from typing import cast
from unittest.mock import Mock, call

import pytest

from tests.support.waiting import eventually
from zerotrust.net.tunnel import TunnelLink
from zerotrust.server.agents import cpu_budget
from zerotrust.server.agents.cpu_budget import CpuBudget
from zerotrust.server.agents.registration_queue import SLICE, RegistrationQueue

pytestmark = pytest.mark.anyio


class RegistrationLog:
    """Slow registrations, and a log of them."""

    def __init__(self) -> None:
        self.link = Mock()
        self.budget = CpuBudget()
        self.queue = RegistrationQueue(cast("TunnelLink", self.link), "home", self.budget)
        self.done: list[int] = []

    def ask(self, number: int, seconds: float = 0.0) -> None:
        def task() -> None:
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                pass
            self.done.append(number)

        self.queue.run(task)


async def test_what_takes_no_time_is_done_at_once() -> None:
    log = RegistrationLog()
    for number in range(100):
        log.ask(number)
    assert log.done == list(range(100))
    assert not log.link.method_calls


async def test_others_have_their_turns_and_the_order_is_kept() -> None:
    log, turns = RegistrationLog(), 0
    for number in range(20):
        log.ask(number, SLICE * 1.5)
    assert log.done == [0]
    assert log.link.method_calls == [call.pause_reading()]
    while len(log.done) < 20:
        before = len(log.done)
        await asyncio.sleep(0)
        assert len(log.done) <= before + 1
        turns += 1
    assert turns >= 19
    assert log.done == list(range(20))
    assert log.link.method_calls == [call.pause_reading(), call.resume_reading()]
    log.ask(20)
    await eventually(lambda: log.done == list(range(21)), "it goes on as before")


async def test_who_has_used_up_its_share_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_budget, "MOST", 0.2)
    log, loop = RegistrationLog(), asyncio.get_running_loop()
    log.budget.pay("home", 2 * cpu_budget.BURST, time.monotonic())
    begun_at = loop.time()
    for number in range(3):
        log.ask(number)
    assert log.done == [0]
    await eventually(lambda: log.done == [0, 1, 2], "all is done")
    assert loop.time() - begun_at >= 0.4


async def test_what_a_session_wanted_is_forgotten_with_it() -> None:
    log = RegistrationLog()
    for number in range(3):
        log.ask(number, SLICE * 1.5)
    log.queue.clear()
    await eventually(lambda: log.queue.timer is None, "the queue has had its next turn")
    assert log.done == [0]
    assert log.link.method_calls == [call.pause_reading()]
