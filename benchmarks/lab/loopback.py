"""Local ports and sockets: find free ports, and wait for listeners."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from benchmarks.lab.processes import Child
from zerotrust.errors import BenchError

ADDRESS: Final = "127.0.0.1"
LISTEN_TIMEOUT: Final = 30.0
_POLL_INTERVAL: Final = 0.02
_FROM, _TO = 20000, 32000
"""Below the ephemeral ports: an outgoing connection cannot take a port before its use."""

_taken: set[int] = set()

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def free_port() -> int:
    """Return a port that is free for TCP and UDP; each is returned once.

    Raises:
        BenchError: no port is free.
    """
    for port in random.sample(range(_FROM, _TO), 200):
        if port not in _taken and all(
            _is_free(port, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        ):
            _taken.add(port)
            return port
    raise BenchError(f"no free port between {_FROM} and {_TO} on {ADDRESS}")


def claim(port: int) -> int:
    """Return the port if it is free.

    Raises:
        BenchError: the port is in use or not allowed.
    """
    if not _is_free(port, socket.SOCK_STREAM):
        raise BenchError(f"port {port} on {ADDRESS} is busy or not allowed; choose another")
    return port


async def wait_port(port: int, child: Child) -> None:
    """Wait until the child listens on the port.

    Raises:
        BenchError: the child has ended, or does not listen in time.
    """
    await _wait(lambda: asyncio.open_connection(ADDRESS, port), f"port {port}", child)


async def wait_socket(path: Path, child: Child) -> None:
    """Wait until the child listens at the unix socket, as `wait_port` does."""
    await _wait(lambda: asyncio.open_unix_connection(path), str(path), child)


async def _wait(connect: Connect, what: str, child: Child) -> None:
    try:
        async with asyncio.timeout(LISTEN_TIMEOUT):
            while True:
                child.check()
                with contextlib.suppress(OSError):
                    _, writer = await connect()
                    writer.transport.abort()
                    return
                await asyncio.sleep(_POLL_INTERVAL)
    except TimeoutError:
        raise BenchError(f"{child.name} does not listen on {what}: {child.last_words()}") from None


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # ignore connections in TIME_WAIT
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True
