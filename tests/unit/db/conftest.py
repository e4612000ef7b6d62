"""Fixtures for database tests: each runs on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest

from zerotrust.db.database import Database


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()
