"""Fixtures for decisions on people: each runs on SQLite and on PostgreSQL."""

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
