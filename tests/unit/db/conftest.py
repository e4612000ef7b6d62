"""The databases that these tests run on: each test on both."""

from collections.abc import Iterator

import pytest

from tests.support.databases import postgresql, url
from zerotrust.db.database import Database

__all__ = ["postgresql", "url"]


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()
