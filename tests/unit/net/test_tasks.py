"""Tests of zerotrust.net.tasks."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.support.waiting import eventually
from zerotrust.net import tasks
from zerotrust.net.tasks import Tasks

pytestmark = pytest.mark.anyio


class Worker:
    """Fails a given number of times, then waits until it is cancelled."""

    def __init__(self, faults: int, error: Exception | None = None) -> None:
        self.faults = faults
        self.error = error or OverflowError("too large")
        self.begun: list[float] = []

    async def work(self) -> None:
        self.begun.append(asyncio.get_running_loop().time())
        if len(self.begun) <= self.faults:
            raise self.error
        await asyncio.get_running_loop().create_future()


async def test_failed_work_restarts_with_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "RESTART_FIRST", 0.05)
    monkeypatch.setattr(tasks, "RESTART_MOST", 0.2)
    running, worker = Tasks(), Worker(faults=4)
    with capture_logs() as logs:
        running.supervise(worker.work, "connection 1")
        await eventually(lambda: len(worker.begun) == 5, "it runs")
    pauses = [
        later - earlier for earlier, later in zip(worker.begun, worker.begun[1:], strict=False)
    ]
    for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.2), strict=True):
        assert pause >= least - 0.002
    errors = [entry for entry in logs if entry["log_level"] == "error"]
    assert len(errors) == 4
    assert (errors[0]["task"], errors[0]["error"]) == ("connection 1", "OverflowError('too large')")
    assert "exc_info" not in errors[0], "one line"
    await running.close()
    assert not running.running


async def test_work_that_returns_is_not_restarted() -> None:
    running = Tasks()

    async def work() -> None:
        pass

    task = running.supervise(work, "done")
    await asyncio.wait_for(task, 20)
    assert not running.running


async def test_work_that_ran_long_restarts_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "RESTART_FIRST", 0.01)
    monkeypatch.setattr(tasks, "RESTART_MOST", 0.02)
    running = Tasks()
    begun: list[None] = []

    async def work() -> None:
        begun.append(None)
        await asyncio.sleep(0.03)
        raise RuntimeError

    with capture_logs() as logs:
        running.supervise(work, "sweep")
        await eventually(lambda: len(begun) == 4, "it runs again")
    await running.close()
    assert {entry["restart_seconds"] for entry in logs if entry["log_level"] == "error"} == {0.01}
