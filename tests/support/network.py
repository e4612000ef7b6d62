"""A faulty network: a TCP proxy that resets, swallows, delays, throttles and corrupts."""

import asyncio
import ctypes
import random
import socket
import struct
from typing import Any, Self

from tests.support.black_hole import swallow

_SO_DETACH_FILTER = 27
_AT_ONCE = struct.pack("ii", 1, 0)
PIECE = 16 * 1024
BUFFER = 64 * 1024


class Network:
    """A TCP proxy with faults.

    Attributes:
        delay, jitter: seconds that each piece takes, and their variation; the order is kept.
        rate: bytes per second in each direction of a connection; 0 for no limit.
        connections: number of connections so far.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self.port = 0
        self.delay = self.jitter = 0.0
        self.rate = 0
        self.connections = 0
        self._corrupt = 0
        self._away = False
        self._pairs: set[tuple[asyncio.StreamWriter, ...]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        # Small socket buffers: large ones would add a delay of their own.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._listener = await asyncio.start_server(self._accepted, sock=listening)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Reset every connection at both ends."""
        for pair in list(self._pairs):
            for writer in pair:
                if writer.transport.is_closing():
                    continue
                raw: Any = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                writer.transport.abort()

    def swallow(self) -> None:
        """Drop all data from now on, without a reset."""
        self._away = True
        for raw in self._sockets():
            swallow(raw)

    def give_back(self) -> None:
        """Pass data again, also on old connections."""
        self._away = False
        for raw in self._sockets():
            raw.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, ctypes.c_int(0))

    def mend(self) -> None:
        """Stop delaying and throttling."""
        self.delay = self.jitter = 0.0
        self.rate = 0

    def corrupt(self) -> None:
        """Flip a bit of the next piece."""
        self._corrupt += 1

    def _sockets(self) -> list[Any]:
        writers = [writer for pair in self._pairs for writer in pair]
        return [*self._listener.sockets, *(writer.get_extra_info("socket") for writer in writers)]

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._to, limit=PIECE)
            onward.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, onward)
        self._pairs.add(pair)
        if self._away:
            for one in pair:
                swallow(one.get_extra_info("socket"))
        for source, sink in ((reader, onward), (there, writer)):
            task = asyncio.create_task(self._carry(source, sink, pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, ...],
    ) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(8 if self.rate else 256)
        writing = asyncio.create_task(self._write(pieces, sink))
        loop = asyncio.get_running_loop()
        try:
            while data := await source.read(PIECE):
                late = self.delay + random.uniform(-self.jitter, self.jitter) if self.delay else 0.0
                await pieces.put((loop.time() + late, data))
            await pieces.put((0.0, b""))
            await writing
        except (OSError, RuntimeError):  # uvloop raises it for a closed connection
            pass
        finally:
            writing.cancel()
            self._pairs.discard(pair)
            for writer in pair:
                writer.transport.abort()

    async def _write(
        self, pieces: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await pieces.get()
            if not data:
                return
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if self._corrupt and len(data) > 40:
                self._corrupt -= 1
                at = len(data) // 2
                data = data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]
            sink.write(data)
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
            await sink.drain()
