"""Fixtures of all tests: asynchronous ones run on one uvloop per worker (anyio's plugin)."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}
