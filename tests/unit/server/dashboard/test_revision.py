"""Tests of the revision: one reading a second for all pages."""

import pytest

from zerotrust.errors import StateError
from zerotrust.server.dashboard.revision import Revision

pytestmark = pytest.mark.anyio


async def test_it_is_read_once_a_second_and_survives_the_database() -> None:
    now, numbers, failing = [0.0], [5], [False]

    async def last_record() -> int:
        if failing[0]:
            raise StateError("the database is locked")
        return numbers.pop()

    revision = Revision(last_record, clock=lambda: now[0])
    assert [await revision.read(), await revision.read()] == [5, 5]
    numbers.append(6)
    now[0] = 1.0
    assert await revision.read() == 6
    numbers.append(7)
    assert await revision.read(now=True) == 7
    failing[0] = True
    now[0] = 2.0
    assert await revision.read() == 7
