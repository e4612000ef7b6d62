"""Tests of zerotrust.net.write_coalescer."""

import asyncio
from typing import Any

from zerotrust.net.write_coalescer import WriteCoalescer


class Connection:
    """Counts its flushes; a broken one raises."""

    def __init__(self, *, broken: bool = False) -> None:
        self.flushed = 0
        self.broken = broken

    def flush(self) -> None:
        self.flushed += 1
        if self.broken:
            raise RuntimeError("broken")


async def turn(connections: list[Connection]) -> list[dict[str, Any]]:
    """Mark all connections, let two turns pass; return the errors that the loop reported."""
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    coalescer = WriteCoalescer(loop)
    for connection in connections:
        coalescer.mark(connection)
    assert not any(connection.flushed for connection in connections)
    for _ in range(3):
        await asyncio.sleep(0)
    return told


def test_each_is_flushed_once_after_the_turn() -> None:
    connections = [Connection(), Connection()]
    assert not asyncio.run(turn(connections))
    assert [connection.flushed for connection in connections] == [1, 1]


def test_an_error_in_one_flush_does_not_stop_others() -> None:
    connections = [Connection(), Connection(broken=True), Connection(), Connection()]
    told = asyncio.run(turn(connections))
    assert [str(context["exception"]) for context in told] == ["broken"]
    assert [connection.flushed for connection in connections] == [1, 1, 1, 1]
