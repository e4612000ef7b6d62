"""File descriptors: limits the connections of the proxy API to leave some for the rest."""

from typing import Final

from zerotrust.model.limits import Limits

RESERVED: Final = 2048
"""Descriptors for all but the proxy API: 512 handshakes, 384 connections of the small listeners and
of agents that join, the database, logs, Caddy's pipes, and about a thousand for connections of
agents, which have two each. Where the process may open fewer than twice as many, half of what it
may open."""
SPARE: Final = 4096
"""Connections beyond `limits.requests`: those that Caddy keeps for its next requests (256), and
those on which requests get 503 because there are too many."""


def api_connections(limits: Limits, descriptors: int) -> int:
    """Return the limit for connections of the proxy API.

    Args:
        descriptors: file descriptors that the process may open.
    """
    return min(limits.requests + SPARE, max(descriptors - RESERVED, descriptors // 2))
