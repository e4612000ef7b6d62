"""A backend whose sockets the test reads and writes itself, step by step.

On loopback, bytes are in the other end's receive buffer when `send` returns, so a test decides
what has arrived before the product's loop has had a turn.
"""

import contextlib
import socket
from typing import Self

from tests.support.waiting import eventually


class Peer:
    """One connection of the product."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        self._raw.setblocking(False)
        self.received = b""

    def receive(self) -> None:
        """Take what has arrived."""
        with contextlib.suppress(OSError):
            while data := self._raw.recv(65536):
                self.received += data

    def send(self, data: bytes) -> None:
        """Send, also where the other end has closed the connection."""
        with contextlib.suppress(OSError):
            self._raw.sendall(data)

    def take_request(self) -> bytes | None:
        """Return a complete request; None until then."""
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or (b"chunked" in head and not body.endswith(b"0\r\n\r\n")):
            return None
        self.received = b""
        return head

    def close(self) -> None:
        self._raw.close()


class RawBackend:
    """A listener on a port of its own, closed at the end of `with`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.peers: list[Peer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self.peers:
            peer.close()
        self._listener.close()

    async def request(self) -> Peer:
        """Wait for a complete request; return its connection."""
        return await eventually(self.requested, "the backend gets a request", interval=0)

    def requested(self) -> Peer | None:
        """Return a connection with a complete request; None if there is none."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.peers.append(Peer(self._listener.accept()[0]))
        for peer in self.peers:
            peer.receive()
            if peer.take_request() is not None:
                return peer
        return None
