"""Targets of the benchmark: the tunnels and proxies that lead to the same backends."""

from dataclasses import dataclass
from typing import Final

from benchmarks.load.jobs import Endpoint

OURS: Final = "0Trust"
BASELINE: Final = "Caddy to backend"
WITHOUT_CADDY: Final = "0Trust without Caddy"
ALONE: Final = "backend alone"

WEB: Final = "web.localhost"
STREAM: Final = "stream.localhost"
SOCKET: Final = "socket.localhost"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One target with the endpoint of each kind of backend; None if it has none.

    Attributes:
        web: 1 KiB and downloads (nginx, or our origin).
        stream: uploads and server-sent events (our origin).
        socket: WebSocket echo.
    """

    name: str
    web: Endpoint | None = None
    stream: Endpoint | None = None
    socket: Endpoint | None = None
