"""Fixtures of the store of people: each test runs on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.support.people import PROVIDERS, Store, Stores, stores


@pytest.fixture
def servers(url: str) -> Iterator[Stores]:
    """Servers that share one database."""
    with stores(url) as made:
        yield made


@pytest.fixture
async def store(servers: Stores, anyio_backend: object) -> Store:
    """A server with identity providers."""
    return await servers.start(identity_providers=PROVIDERS)
