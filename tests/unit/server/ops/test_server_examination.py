"""Tests of zerotrust.server.ops.server_examination."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.waiting import eventually
from zerotrust.errors import StateError
from zerotrust.model.doctor import DoctorFacts, Finding
from zerotrust.model.server import ServerConfig
from zerotrust.net.tasks import Tasks
from zerotrust.server.ops.server_examination import Examiner, ServerExamination

pytestmark = pytest.mark.anyio

CONFIG = ServerConfig()
FACTS = DoctorFacts(version="1", unix_time=1.0, descriptors=1024)
FOUND = Finding(check="a", level="broken", subject="x", what="w", fix="f")


async def known_facts() -> DoctorFacts:
    return FACTS


def examining(examine: Examiner, **about: Any) -> tuple[ServerExamination, Tasks]:
    tasks = Tasks()
    settings: dict[str, Any] = {"config": lambda: CONFIG, "facts": known_facts, **about}
    return ServerExamination(tasks, examine=examine, **settings), tasks


async def test_findings_come_from_another_thread_with_their_time() -> None:
    seen: list[object] = []

    async def examine(config: ServerConfig, *, facts: DoctorFacts) -> list[Finding]:
        seen.extend((config, facts, threading.current_thread() is threading.main_thread()))
        return [FOUND]

    times = iter((100.0, 102.5))
    examination, _ = examining(examine, clock=lambda: next(times))
    assert examination.result is None
    before = examination.version
    await examination.run(patience=10)
    assert examination.result == (102.5, 2.5, (FOUND,), "")
    assert examination.began_at is None
    assert examination.version != before
    assert seen == [CONFIG, FACTS, False]


class HeldExamination:
    """An examination that goes on until it is let go, or cancelled."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.release: Callable[[], object] = lambda: None

    async def __call__(self, config: ServerConfig, *, facts: DoctorFacts) -> list[Finding]:
        gate, loop = asyncio.Event(), asyncio.get_running_loop()
        self.release = lambda: loop.call_soon_threadsafe(gate.set)
        self.begun += 1
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return [FOUND]


async def test_one_runs_at_a_time_and_goes_on_behind_who_asked() -> None:
    held = HeldExamination()
    examination, _ = examining(held)
    await examination.run(patience=0)
    await eventually(lambda: held.begun, "it has begun")
    running = examination.version
    await examination.run(patience=0)
    assert examination.began_at is not None and examination.result is None
    assert (held.begun, examination.version) == (1, running)
    held.release()
    await examination.run(patience=10)
    assert examination.result is not None and examination.result.findings == (FOUND,)
    await examination.run(patience=0)
    await eventually(lambda: held.begun == 2, "another one has begun")
    held.release()
    await examination.run(patience=10)


async def test_it_ends_in_time() -> None:
    held = HeldExamination()
    examination, _ = examining(held, limit=0.01)
    await examination.run(patience=10)
    assert examination.result is not None
    assert examination.result.failure == "it did not end within 0.01 seconds"
    assert held.cancelled == 1


async def test_a_server_that_stops_does_not_wait_for_it() -> None:
    held = HeldExamination()
    examination, tasks = examining(held)
    await examination.run(patience=0)
    await eventually(lambda: held.begun, "it has begun")
    await tasks.close()
    await eventually(lambda: held.cancelled, "the thread ends, too")


async def test_a_database_that_cannot_be_used() -> None:
    async def broken() -> DoctorFacts:
        raise StateError("the database is locked")

    examination, _ = examining(HeldExamination(), facts=broken)
    await examination.run(patience=10)
    assert examination.result is not None
    assert examination.result.failure == "the database is locked"


async def test_a_fault_of_ours_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    async def fault(config: ServerConfig, *, facts: DoctorFacts) -> list[Finding]:
        raise RuntimeError("a fault")

    examination, _ = examining(fault)
    await examination.run(patience=10)
    assert examination.result is not None
    assert examination.result.failure == "the server's log has the reason"
    assert examination.began_at is None
    assert "a fault" in capsys.readouterr().out
