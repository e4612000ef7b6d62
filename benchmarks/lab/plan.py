"""Plan of a tunnel to compare with: the processes to start, and where they publish the backends."""

from collections.abc import Mapping
from typing import NamedTuple


class Part(NamedTuple):
    """One process of a tunnel.

    Attributes:
        opens: ports that it listens on, once it is ready.
    """

    name: str
    command: tuple[str, ...]
    opens: tuple[int, ...]


class Plan(NamedTuple):
    """Processes of a tunnel, in the order of their start.

    Attributes:
        hosts: the port at which each host name is published.
    """

    parts: tuple[Part, ...]
    hosts: Mapping[str, int]
