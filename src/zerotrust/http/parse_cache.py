"""Cache for the results of parsing heads.

A client sends the same fields with each request, and a backend sends the same head with each answer
to the same request; HPACK (RFC 7541 s2.3.2) relies on this too. The result of parsing depends only
on the bytes, so it can be cached. The cache is a bounded LRU cache. Its entries may contain cookies
until other heads replace them.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final, TypeVar

MAX_HEADS: Final = 256
MAX_BYTES: Final = 4096
"""Longer heads are not cached, so that a cache takes at most 1 MiB."""

T = TypeVar("T")


def recent(read: Callable[..., T]) -> Callable[..., T]:
    """Cache the results of a function whose first argument is a head. Exceptions are not cached."""
    cached = lru_cache(maxsize=MAX_HEADS)(read)

    @wraps(read)
    def look_up(head: bytes, *rest: int) -> T:
        return cached(head, *rest) if len(head) <= MAX_BYTES else read(head, *rest)

    return look_up
