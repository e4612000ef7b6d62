"""Free ports on loopback, below the ephemeral port range."""

import os
import random
import socket

_FIRST, _END = 20000, 32000
_given: set[int] = set()


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_port() -> int:
    """Return a free port; this process never returns it again, and other workers get others.

    A worker in the place of one that has crashed has a number above all others; it takes the ports
    of one of them, as far as they are free.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = random.randrange(_FIRST, _END)
        if port % workers == worker % workers and port not in _given and _is_free(port):
            _given.add(port)
            return port


def closed_port() -> int:
    """Return a port that refuses connections."""
    return free_port()
