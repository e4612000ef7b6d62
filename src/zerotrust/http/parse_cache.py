"""Heads that were seen a moment ago are not read again.

A client sends the same fields with each of its requests, and a backend the same head with each answer to the same
question: HPACK (RFC 7541 s2.3.2) lives of it. What a head means depends on nothing but its bytes, so the result of
reading it is kept for the next one. What is kept is bounded: some hundred heads of the common size, which may hold
cookies, and are forgotten as others come.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final, TypeVar

MAX_HEADS: Final = 256
MAX_BYTES: Final = 4096
"""A longer head is read anew each time: strangers' bytes may take 1 MiB of memory in each cache, not more."""

T = TypeVar("T")


def recent(read: Callable[..., T]) -> Callable[..., T]:
    """Keep what `read` made of recent arguments, the first of which is a head. What it raises is not kept."""
    kept = lru_cache(maxsize=MAX_HEADS)(read)

    @wraps(read)
    def look_up(head: bytes, *rest: int) -> T:
        return kept(head, *rest) if len(head) <= MAX_BYTES else read(head, *rest)

    return look_up
