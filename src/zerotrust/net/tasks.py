"""Background tasks: keeps references to them, and logs their failures."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from zerotrust.telemetry import logs

_log = logs.logger("tasks")

RESTART_FIRST: Final = 1.0
RESTART_MOST: Final = 60.0
"""Seconds until failed work starts again. The pause doubles with each failure, unless the work ran
for longer than RESTART_MOST."""


class Tasks:
    """The background tasks of one component.

    Attributes:
        running: the tasks that have not ended.
    """

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` as a background task; log its failure."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.running.add(task)
        task.add_done_callback(self._ended)
        return task

    def supervise(
        self, work: Callable[[], Coroutine[Any, Any, None]], name: str
    ) -> asyncio.Task[None]:
        """Run essential work as a background task; start it again when it raises, until it
        returns."""
        return self.spawn(_supervised(work, name), name)

    async def close(self) -> None:
        """Cancel all running tasks and wait for them."""
        running = list(self.running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task failed", task=task.get_name(), error=repr(error), exc_info=error)


async def _supervised(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    loop = asyncio.get_running_loop()
    pause = 0.0
    while True:
        begun_at = loop.time()
        try:
            await work()
        except Exception as error:  # noqa: BLE001  the component continues after any error
            ran_long = loop.time() - begun_at > RESTART_MOST
            pause = RESTART_FIRST if ran_long else min(max(pause * 2, RESTART_FIRST), RESTART_MOST)
            _log.error(
                "task failed; please report this fault",
                task=name,
                error=repr(error),
                restart_seconds=pause,
            )
            _log.debug("traceback of the failed task", task=name, exc_info=error)
        else:
            return
        await asyncio.sleep(pause)
