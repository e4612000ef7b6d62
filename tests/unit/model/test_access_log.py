"""Tests of zerotrust.model.access_log."""

import pytest
from pydantic import ValidationError

from zerotrust.model.access_log import AccessLog


@pytest.mark.parametrize(("size", "expected"), [("64KiB", 65536), ("0", 0), ("1GB", 10**9)])
def test_sizes(size: str, expected: int) -> None:
    assert AccessLog(max_size=size).max_bytes == expected


def test_a_tiny_file_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 64KiB"):
        AccessLog(max_size="1KiB")
