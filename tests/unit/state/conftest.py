"""The databases that these tests run on: each test on both."""

from collections.abc import Iterator

import pytest

from tests.kits.databases import postgresql, url
from zerotrust.state.database import Database

__all__ = ["postgresql", "url"]


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()
