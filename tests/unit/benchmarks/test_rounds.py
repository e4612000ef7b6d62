"""Tests of benchmarks.rounds."""

import pytest

from benchmarks.rounds import in_turns

pytestmark = pytest.mark.anyio


async def test_a_b_a_b() -> None:
    order: list[str] = []

    async def measure(name: str) -> int:
        order.append(name)
        return len(order)

    found = await in_turns(3, {"a": lambda: measure("a"), "b": lambda: measure("b")})
    assert order == ["a", "b"] * 3
    assert found == {"a": [1, 3, 5], "b": [2, 4, 6]}
