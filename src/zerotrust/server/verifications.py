"""Costly questions, answered in threads: each once, however many requests wait for it."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from zerotrust.handlers.protocol import Verification
from zerotrust.net.tasks import Tasks
from zerotrust.telemetry import logs

_log = logs.logger("policy")

THREADS: Final = min(4, os.cpu_count() or 1)
"""A hash may take a quarter of a GiB and all of a processor: few at a time, and the loop's own turns go on."""


class Verifications:
    """Runs what handlers are waiting for (`zerotrust.handlers.protocol.Pending`)."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._threads = ThreadPoolExecutor(THREADS, "verify")
        self._waiting: dict[Verification, list[Callable[[bool], None]]] = {}

    def ask(self, verification: Verification, tell: Callable[[bool], None]) -> None:
        """Call `tell` with the result, in a later turn of the loop."""
        waiting = self._waiting.get(verification)
        if waiting is None:
            waiting = self._waiting[verification] = []
            self._tasks.spawn(self._run(verification), "verify")
        waiting.append(tell)

    async def _run(self, verification: Verification) -> None:
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._threads, verification.run)
        except Exception:  # noqa: BLE001 - who waits has to hear of it, whatever it was
            _log.exception("a verification failed; nobody passes by it")
            result = False
        for tell in self._waiting.pop(verification):
            loop.call_soon(tell, result)
