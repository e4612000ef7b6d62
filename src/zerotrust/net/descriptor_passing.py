"""Hands accepted connections from one process to another (SCM_RIGHTS, unix(7)).

Each message on the channel is one byte, which names the listener, and one descriptor. The other
direction carries messages of two bytes without a descriptor, from the worker to its parent.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Self

from zerotrust.net.listen import LimitedListener, Listening, PlainListening, bind_all
from zerotrust.net.tasks import Tasks
from zerotrust.tunnel.client_hello import HEADER_BYTES, record_bytes, wanted_worker

Connection = socket.socket
Take = Callable[[Connection], None]
"""Serves an accepted connection, or closes it."""

MESSAGE_BYTES: Final = 2
"""Length of a message of a worker."""
_TAKEN: Final = 64
"""Connections that are taken in one turn of the loop."""


class WorkerChannel:
    """The parent's end of a channel to one worker.

    Attributes:
        descriptor: of the worker's end, which the worker inherits.
    """

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._readable: asyncio.Future[None] | None = None
        self.descriptor = self._theirs.fileno()

    def started(self) -> None:
        """Close the worker's end here: the worker has its own descriptor."""
        self._theirs.close()

    def hand(self, listener: bytes, connection: socket.socket) -> bool:
        """Hand a connection over, to be closed here; return False if that fails."""
        try:
            socket.send_fds(self._ours, [listener], [connection.fileno()])
        except OSError:  # the worker has ended, or takes nothing any more
            return False
        return True

    async def receive(self) -> bytes:
        """Return the next message of the worker; empty when either end is closed."""
        message = b""
        while len(message) < MESSAGE_BYTES and self._ours.fileno() >= 0:
            try:
                part = self._ours.recv(MESSAGE_BYTES - len(message))
            except (BlockingIOError, InterruptedError):
                await self._until_readable()
                continue
            except OSError:
                part = b""
            if not part:
                break
            message += part
        return message if len(message) == MESSAGE_BYTES else b""

    def close(self) -> None:
        """Close both ends: connections that the worker has not taken are closed, too."""
        self._theirs.close()
        if self._readable is not None:
            # The loop must stop watching a descriptor before it is closed.
            self._readable.get_loop().remove_reader(self._ours)
            _set(self._readable)
        self._ours.close()

    async def _until_readable(self) -> None:
        loop = asyncio.get_running_loop()
        self._readable = loop.create_future()
        loop.add_reader(self._ours, _set, self._readable)
        try:
            await self._readable
        finally:
            self._readable = None
            if self._ours.fileno() >= 0:
                loop.remove_reader(self._ours)


class ParentChannel:
    """The worker's end of a channel: serves the connections that the parent hands over.

    Args:
        descriptor: the inherited descriptor.
        ended: called when the parent has ended.

    Attributes:
        listeners: serve the connections, by the byte that names the listener.
    """

    def __init__(self, descriptor: int, *, ended: Callable[[], object]) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self._channel.setblocking(False)
        self._channel.set_inheritable(False)
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self.listeners: Mapping[bytes, Take] = {}

    def start(self, listeners: Mapping[bytes, Take]) -> None:
        """Serve connections from now on."""
        self.listeners = listeners
        self._loop.add_reader(self._channel, self._receive)

    def tell(self, message: bytes) -> None:
        """Send a message to the parent."""
        with suppress(OSError):
            self._channel.send(message)

    def refuse(self, listener: bytes) -> None:
        """Close the connections of this listener from now on."""
        self.listeners = {name: take for name, take in self.listeners.items() if name != listener}

    def close(self) -> None:
        """Take no more connections."""
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel)
            self._channel.close()

    def _receive(self) -> None:
        for _ in range(_TAKEN):
            try:
                name, descriptors, _, _ = socket.recv_fds(
                    self._channel, 1, 1, getattr(socket, "MSG_CMSG_CLOEXEC", 0)
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                name, descriptors = b"", []
            if not name:
                self._loop.remove_reader(self._channel)
                self._ended()
                return
            for descriptor in descriptors:
                connection = socket.socket(fileno=descriptor)
                connection.set_inheritable(False)
                take = self.listeners.get(name)
                if take is None:
                    connection.close()
                else:
                    take(connection)


class HandingListening(PlainListening):
    """Accepts connections and hands each of them to a worker."""

    def __init__(self, sockets: list[socket.socket], hand: Take, *, key: str) -> None:
        super().__init__(sockets, lambda: None, key=key)
        self._hand = hand

    @classmethod
    def bind(cls, address: str, hand: Take, *, key: str, beside: Listening | None = None) -> Self:
        """Accept connections at an address, as `listen_plain` does.

        Raises:
            SetupError: the address can't be used.
        """
        return cls(bind_all(address, key=key, beside=beside), hand, key=key)

    def take(self, connection: socket.socket) -> None:
        """Hand the connection over."""
        self._hand(connection)


class WorkerListener(LimitedListener):
    """Accepts connections of agents, and hands each to the worker that its first message names.

    The message stays in the connection's buffer: the worker reads it again.

    Args:
        hand: hands a connection to the worker of this number.
    """

    def __init__(
        self,
        hand: Callable[[int, socket.socket], None],
        *,
        refused: Callable[[str, str], None],
        tasks: Tasks,
    ) -> None:
        super().__init__(refused=refused, tasks=tasks)
        self._hand = hand

    async def _serve(self, connection: socket.socket) -> None:
        try:
            size = record_bytes(await _peek(connection, HEADER_BYTES))
            worker = wanted_worker(await _peek(connection, size)) if size else 0
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        except BaseException:
            connection.close()
            raise
        self._hand(worker, connection)


async def _peek(connection: socket.socket, size: int) -> bytes:
    """Return the first bytes that have arrived, and leave them in the buffer.

    Raises:
        OSError: the connection has ended before.
    """
    # The loop tells of this descriptor when so many bytes have arrived, or no more will.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _set, readable)
    try:
        await readable
    finally:
        loop.remove_reader(connection)
    data = connection.recv(size, socket.MSG_PEEK)
    if len(data) < size:
        raise ConnectionResetError("it ended before the handshake")
    return data


def _set(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)
