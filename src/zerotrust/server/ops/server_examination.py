"""Examination of the running server by the checks of `0trust doctor`, for the dashboard."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from zerotrust.doctor.examination import findings
from zerotrust.errors import ZeroTrustError
from zerotrust.model.doctor import DoctorFacts, Finding
from zerotrust.model.server import ServerConfig
from zerotrust.net.tasks import Tasks

TIME_LIMIT: Final = 75.0
"""Seconds for one examination: each check has 60."""

_UNKNOWN: Final = "the server's log has the reason"


class ExaminationResult(NamedTuple):
    """Result of one examination.

    Attributes:
        ended_at: seconds since 1970.
        seconds: duration.
        findings: the worst first.
        failure: the reason why the examination was not completed; empty if it was.
    """

    ended_at: float
    seconds: float
    findings: tuple[Finding, ...]
    failure: str


class Examiner(Protocol):
    """Checks a server (`doctor.examination.findings`)."""

    def __call__(
        self, config: ServerConfig, *, facts: DoctorFacts
    ) -> Coroutine[Any, Any, list[Finding]]:
        """Return everything that is wrong, the worst first."""


class ServerExamination:
    """Examines the server when asked to, one examination at a time.

    Args:
        tasks: run the examination, which outlives the request that has begun it.
        config: returns the configuration in force.
        facts: returns the facts about the running server.
        examine: does the checks.
        limit: seconds for one examination.
        clock: seconds since 1970.

    Attributes:
        began_at: begin of the examination that runs; None while none runs.
        result: the last result; None before the first.
    """

    def __init__(
        self,
        tasks: Tasks,
        *,
        config: Callable[[], ServerConfig],
        facts: Callable[[], Awaitable[DoctorFacts]],
        examine: Examiner = findings,
        limit: float = TIME_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.began_at: float | None = None
        self.result: ExaminationResult | None = None
        self._tasks = tasks
        self._config = config
        self._facts = facts
        self._examine = examine
        self._limit = limit
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    @property
    def version(self) -> Hashable:
        """Return another value after each begin and each end."""
        return self.began_at, None if self.result is None else self.result.ended_at

    async def run(self, patience: float) -> None:
        """Begin an examination, unless one runs, and wait for its end.

        Args:
            patience: seconds to wait at most; the examination goes on.
        """
        if self._task is None or self._task.done():
            self.began_at = self._clock()
            self._task = self._tasks.spawn(self._run(self.began_at), "examination")
        await asyncio.wait({self._task}, timeout=patience)

    async def _run(self, began_at: float) -> None:
        found: list[Finding] = []
        failure = _UNKNOWN
        try:
            work = partial(self._examine, self._config(), facts=await self._facts())
            found = await _on_own_loop(work, self._limit)
            failure = ""
        except TimeoutError:
            failure = f"it did not end within {self._limit:g} seconds"
        except ZeroTrustError as error:
            failure = str(error)
        finally:
            ended_at = self._clock()
            self.result = ExaminationResult(ended_at, ended_at - began_at, tuple(found), failure)
            self.began_at = None


async def _on_own_loop(
    work: Callable[[], Coroutine[Any, Any, list[Finding]]], limit: float
) -> list[Finding]:
    """Run work in a thread with a loop of its own.

    Checks read files and the authorities that browsers trust: on the server's loop this would hold
    up all connections.

    Raises:
        TimeoutError: it did not end in time.
    """
    cancels: list[Callable[[], object]] = []

    async def limited() -> list[Finding]:
        task = asyncio.current_task()
        assert task is not None
        cancels.append(partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
        async with asyncio.timeout(limit):
            return await work()

    try:
        return await asyncio.to_thread(lambda: asyncio.run(limited()))
    except asyncio.CancelledError:
        for cancel in cancels:
            with suppress(RuntimeError):  # the loop has just closed
                cancel()
        raise
