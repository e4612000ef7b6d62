"""Waiting for a condition, with a deadline and a description for the failure."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    check: Callable[[], Awaitable[T | None]], what: str, timeout: float = ..., interval: float = ...
) -> T: ...
@overload
async def eventually(
    check: Callable[[], T | None], what: str, timeout: float = ..., interval: float = ...
) -> T: ...
async def eventually(
    check: Callable[[], Any], what: str, timeout: float = 10.0, interval: float = 0.02
) -> Any:
    """Return the first true value of `check`.

    Raises:
        AssertionError: it stayed false for `timeout` seconds.
    """
    end_at = time.monotonic() + timeout
    while True:
        found = check()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        assert time.monotonic() < end_at, f"not within {timeout:g} s: {what}; last seen: {value!r}"
        await asyncio.sleep(interval)
