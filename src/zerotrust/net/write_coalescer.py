"""Coalesces the writes of one turn of the event loop into one system call per connection.

Frames of many streams, or the head and the body of an answer, come from different callbacks of one
turn. Each connection buffers what it has to send and marks itself here. One callback at the end of
the turn flushes all marked connections.
"""

import asyncio
from typing import Final, Protocol

READ_BYTES: Final = 64 * 1024
"""Largest read from clients and backends. A stream's first window has the same size, so that the
tunnel can take a whole read at once."""


class Flushable(Protocol):
    """A connection with buffered writes."""

    def flush(self) -> None:
        """Write the buffered bytes to the transport."""


class WriteCoalescer:
    """Flushes marked connections at the end of each turn. One for each event loop.

    Attributes:
        read_buffer: shared read buffer of the connections; each copies its bytes before the next
            one reads.
    """

    __slots__ = ("_loop", "_marked", "read_buffer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._marked: list[Flushable] = []
        self.read_buffer = memoryview(bytearray(READ_BYTES))

    def mark(self, connection: Flushable) -> None:
        """Call `connection.flush` at the end of this turn. Mark a connection only once a turn."""
        if not self._marked:
            self._loop.call_soon(self._run)
        self._marked.append(connection)

    def _run(self) -> None:
        waiting, self._marked = iter(self._marked), []
        try:
            for connection in waiting:
                connection.flush()
        finally:
            # After an exception, which the loop reports: mark the other connections again, as they
            # will not do it.
            for connection in waiting:
                self.mark(connection)
