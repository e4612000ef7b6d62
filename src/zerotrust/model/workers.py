"""Workers: the processes of one server, and their shares of its limits."""

import os
from typing import Final

MAX_WORKERS: Final = 64


def processors() -> int:
    """Return the number of processors that this process may use, at most MAX_WORKERS."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return min(os.cpu_count() or 1 if usable is None else len(usable), MAX_WORKERS)


def share(limit: int, workers: int) -> int:
    """Return the share of each of several workers in a limit of the whole server, at least 1.

    It is rounded up: all shares together exceed the limit by less than the number of workers.
    """
    return -(-limit // workers)
