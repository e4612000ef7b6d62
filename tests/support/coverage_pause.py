"""Pytest plugin: measure no coverage where no line of the package runs."""

import sys
from collections.abc import Callable, Generator
from functools import wraps
from typing import ParamSpec, TypeVar

import pytest
from sqlalchemy.orm import Session

P = ParamSpec("P")
R = TypeVar("R")


class CoveragePause:
    """Pauses the tracer of coverage.py, which is called for each line of every package.

    It pauses in pytest's own work between the phases of a test, in tests about files alone, and in
    SQLAlchemy. From there, the package's own functions are called only when a transaction begins or
    ends, which `Database.open` does too.
    """

    def __init__(self) -> None:
        self._trace = sys.gettrace()
        for name in ("execute", "scalar", "scalars", "get", "flush", "commit"):
            setattr(Session, name, _unmeasured(getattr(Session, name)))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        sys.settrace(None)
        try:
            return (yield)
        finally:
            sys.settrace(self._trace)

    def _measured(self, item: pytest.Item) -> Generator[None, object, object]:
        if item.path.name != "test_house.py":
            sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)

    # Last: inside the other plugins.
    pytest_runtest_setup = pytest.hookimpl(wrapper=True, trylast=True)(_measured)
    pytest_runtest_call = pytest.hookimpl(wrapper=True, trylast=True)(_measured)
    pytest_runtest_teardown = pytest.hookimpl(wrapper=True, trylast=True)(_measured)


def _unmeasured(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that pauses the tracer of the thread that calls it."""

    @wraps(function)
    def paused(*args: P.args, **keywords: P.kwargs) -> R:
        trace = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*args, **keywords)
        finally:
            sys.settrace(trace)

    return paused
