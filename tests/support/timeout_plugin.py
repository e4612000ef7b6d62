"""Pytest plugin: dump the stacks of a test that exceeds its timeout, before its process ends."""

import asyncio
import faulthandler
import functools
import gc
import math
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from time import monotonic  # tests may replace that of the module
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


class Alarms:
    """Functions to call at a time, all from one thread: to start one takes as long as a test."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._alarms: dict[str, tuple[float, Callable[[], None]]] = {}
        self._next = 0.0
        """The time at which the thread looks again, if nothing wakes it."""
        self._thread: threading.Thread | None = None

    def set(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` after so many seconds, unless the alarm is cancelled."""
        at = monotonic() + seconds
        with self._changed:
            self._alarms[name] = at, act
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()
            elif at < self._next:
                self._changed.notify()

    def cancel(self, name: str) -> None:
        with self._changed:
            self._alarms.pop(name, None)

    def _watch(self) -> None:
        while True:
            with self._changed:
                name = min(self._alarms, key=lambda name: self._alarms[name][0], default=None)
                self._next = math.inf if name is None else self._alarms[name][0]
                left = self._next - monotonic()
                if name is None or left > 0:
                    self._changed.wait(None if name is None else left)
                    continue
                _, act = self._alarms.pop(name)
            act()


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
        self._alarms = Alarms()

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: object) -> None:
        seconds = float(settings.timeout)  # type: ignore[attr-defined]
        self._fail_at[item.nodeid] = (
            monotonic() + seconds - max(min(MARGIN, seconds / 3), seconds / 10)
        )
        self._alarms.set(
            item.nodeid, seconds - LAST_WORDS, functools.partial(self._last_words, item.nodeid)
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> None:
        self._alarms.cancel(item.nodeid)
        self._fail_at.pop(item.nodeid, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> None:
        fail_at = self._fail_at.get(pyfuncitem.nodeid)
        if fail_at is not None and asyncio.iscoroutinefunction(pyfuncitem.obj):
            pyfuncitem.obj = _failing_at(pyfuncitem.obj, fail_at)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        teardown = f"the teardown of {item.nodeid}"
        self._alarms.set(teardown, TEARDOWN, functools.partial(self._end_process, teardown))
        try:
            return (yield)
        finally:
            self._alarms.cancel(teardown)

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
        async with asyncio.timeout(fail_at - monotonic()):
            await test(**arguments)

    return bounded
