"""Fixtures of the store of people: each test runs on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.support.databases import postgresql, url
from tests.support.people import Store, Stores, stores

__all__ = ["postgresql", "url"]


@pytest.fixture
def servers(url: str) -> Iterator[Stores]:
    """Servers that share one database."""
    with stores(url) as made:
        yield made


@pytest.fixture
async def store(servers: Stores, anyio_backend: object) -> Store:
    """A server without settings."""
    return await servers.start()
