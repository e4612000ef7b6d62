"""What is written during one turn of the loop leaves at its end, with one system call per connection.

A tunnel's frames of many streams, or the head and the body of an answer, come from different callbacks of the same
turn. Each connection keeps what it is told to send and marks itself here; one callback for all of them then flushes.
"""

import asyncio
from typing import Final, Protocol

READ_BYTES: Final = 64 * 1024
"""Read at a time from clients and backends. A read that the tunnel does not take at once waits as a whole: this is what
a stream's first window takes."""


class Flushable(Protocol):
    """Something that marked itself."""

    def flush(self) -> None:
        """Hand what has gathered to the transport."""


class WriteCoalescer:
    """One for each event loop.

    Attributes:
        read_buffer: where connections read into; each takes its bytes before the next one reads.
    """

    __slots__ = ("_loop", "_marked", "read_buffer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._marked: list[Flushable] = []
        self.read_buffer = memoryview(bytearray(READ_BYTES))

    def mark(self, connection: Flushable) -> None:
        """Have `connection.flush` called at the end of this turn; to be called once until then."""
        if not self._marked:
            self._loop.call_soon(self._run)
        self._marked.append(connection)

    def _run(self) -> None:
        waiting, self._marked = iter(self._marked), []
        try:
            for connection in waiting:
                connection.flush()
        finally:
            # Only after one has raised, which the loop reports: the others would never mark themselves again.
            for connection in waiting:
                self.mark(connection)
