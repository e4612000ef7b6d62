"""Background tasks: named, kept, and heard when they fail."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from zerotrust.telemetry import logs

_log = logs.logger("tasks")

RESTART_FIRST: Final = 1.0
RESTART_MOST: Final = 60.0
"""Seconds before work that failed begins again; the pause doubles unless the work ran for longer than RESTART_MOST."""


class Tasks:
    """The background tasks of one component; `close` ends them all."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside everything else; a failure is logged, never lost."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def supervise(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """Run work without which the component is dead: begin it again when it raises, until it returns."""
        return self.spawn(_supervised(work, name), name)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task failed", task=task.get_name(), error=repr(error), exc_info=error)


async def _supervised(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    loop = asyncio.get_running_loop()
    pause = 0.0
    while True:
        begun_at = loop.time()
        try:
            await work()
        except Exception as error:  # noqa: BLE001  whatever it is, the component goes on
            ran_long = loop.time() - begun_at > RESTART_MOST
            pause = RESTART_FIRST if ran_long else min(max(pause * 2, RESTART_FIRST), RESTART_MOST)
            _log.error("task failed; please report this fault", task=name, error=repr(error), restart_seconds=pause)
            _log.debug("traceback of the fault", task=name, exc_info=error)
        else:
            return
        await asyncio.sleep(pause)
