"""Reproducible bytes of any length that never look alike when shifted, and their hashes."""

import hashlib
import random
from collections.abc import Iterator

PERIOD = 1048583  # a prime just above 1 MiB, so that no block size fits into it
_ONCE = random.Random(20240229).randbytes(PERIOD)
_TWICE = memoryview(_ONCE + _ONCE)


def pattern(size: int, *, offset: int = 0, piece: int = 256 * 1024) -> Iterator[memoryview]:
    """Yield the bytes from `offset` to `offset + size`, in pieces."""
    end = offset + size
    while offset < end:
        length = min(piece, end - offset)
        start = offset % PERIOD
        yield _TWICE[start : start + length]
        offset += length


def pattern_bytes(size: int, *, offset: int = 0) -> bytes:
    return b"".join(pattern(size, offset=offset))


def pattern_digest(size: int) -> str:
    digest = hashlib.sha256()
    for piece in pattern(size):
        digest.update(piece)
    return digest.hexdigest()
