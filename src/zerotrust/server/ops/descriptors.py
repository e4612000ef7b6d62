"""File descriptors: limits the connections of the proxy API to leave some for the rest."""

from typing import Final

from zerotrust.model.limits import Limits

RESERVED: Final = 2048
"""Descriptors for everything but the proxy API: 512 handshakes, 384 connections of the small
listeners and of agents that join, the database, logs, Caddy's pipes, and about a thousand for
connections of agents, which have two each. If the process may open fewer than twice as many, half
of them are reserved."""
SPARE: Final = 4096
"""Connections beyond `limits.requests`: 256 that Caddy keeps for its next requests, and those whose
requests get 503 because the limit is reached."""


def api_connections(limits: Limits, descriptors: int) -> int:
    """Return the limit for connections of the proxy API.

    Args:
        descriptors: file descriptors that the process may open.
    """
    return min(limits.requests + SPARE, max(descriptors - RESERVED, descriptors // 2))
