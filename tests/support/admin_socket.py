"""Client for the admin socket of a server."""

from pathlib import Path

import httpx2


def admin_client(socket: Path) -> httpx2.AsyncClient:
    """Return an HTTP client for the socket; use it as an async context manager."""
    # The socket has no TLS: to load the system's authorities would take 30 ms of CPU time.
    transport = httpx2.AsyncHTTPTransport(uds=str(socket), verify=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://0trust", timeout=10)
