"""Pytest plugin: dump the stacks of a test that exceeds its timeout, before its process ends."""

import asyncio
import faulthandler
import functools
import gc
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from types import AsyncGeneratorType, CoroutineType

import pytest

MARGIN = 3.0
"""Seconds before the timeout at which the test is cancelled, at most a third of its time; in tests
that may take longer, a tenth of their time.

The test then fails like any other and stops the processes it started.
"""
LAST_WORDS = 1.0
"""Seconds before the timeout at which the process prints its stacks."""
TEARDOWN = float(os.environ.get("TEARDOWN_SECONDS", "60"))
"""Limit in seconds for a test's teardown, where pytest-timeout sets none after a failure."""


class TimeoutPlugin:
    """Plugin beside pytest-timeout, which ends the whole process of a test that blocks the loop.

    It cancels a waiting coroutine a little earlier, so that its traceback names the line. If that
    does not help, it prints the stacks of all threads and coroutines: the output of pytest-timeout
    is lost when several processes share the tests.
    """

    def __init__(self) -> None:
        # Duplicated before pytest captures the output.
        assert sys.__stderr__ is not None
        self._stderr = os.fdopen(os.dup(sys.__stderr__.fileno()), "w", buffering=1)
        self._fail_at: dict[str, float] = {}
        self._timers: dict[str, threading.Timer] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: object) -> None:
        seconds = float(settings.timeout)  # type: ignore[attr-defined]
        self._fail_at[item.nodeid] = (
            time.monotonic() + seconds - max(min(MARGIN, seconds / 3), seconds / 10)
        )
        timer = threading.Timer(seconds - LAST_WORDS, self._last_words, (item.nodeid,))
        timer.daemon = True
        timer.start()
        self._timers[item.nodeid] = timer

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> None:
        if timer := self._timers.pop(item.nodeid, None):
            timer.cancel()
        self._fail_at.pop(item.nodeid, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> None:
        fail_at = self._fail_at.get(pyfuncitem.nodeid)
        if fail_at is not None and asyncio.iscoroutinefunction(pyfuncitem.obj):
            pyfuncitem.obj = _failing_at(pyfuncitem.obj, fail_at)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        timer = threading.Timer(TEARDOWN, self._end_process, (f"the teardown of {item.nodeid}",))
        timer.daemon = True
        timer.start()
        try:
            return (yield)
        finally:
            timer.cancel()

    def _end_process(self, what: str) -> None:
        self._last_words(what)
        os._exit(1)

    def _last_words(self, test: str) -> None:
        print(f"\n{test} does not end. Its threads:", file=self._stderr)
        faulthandler.dump_traceback(self._stderr)
        print("and where its coroutines wait:", file=self._stderr)
        for thing in gc.get_objects():
            frame = None
            if isinstance(thing, CoroutineType):
                frame = thing.cr_frame
            elif isinstance(thing, AsyncGeneratorType):
                frame = thing.ag_frame
            if frame is not None:
                code = frame.f_code
                print(
                    f"  {code.co_filename}:{frame.f_lineno} in {code.co_qualname}",
                    file=self._stderr,
                )


def _failing_at(
    test: Callable[..., Awaitable[None]], fail_at: float
) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(**arguments: object) -> None:
        async with asyncio.timeout(fail_at - time.monotonic()):
            await test(**arguments)

    return bounded
