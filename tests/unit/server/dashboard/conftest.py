"""Fixtures of the dashboard: one with an agent, and browsers of an administrator and others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dashboard_server import DashboardServer, signed_in, start_dashboard
from tests.support.people import Stores, stores
from tests.support.portal_server import Browser


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Stores]:
    with stores(f"sqlite:///{tmp_path / 'state.db'}") as made:
        yield made


@pytest.fixture
async def server(servers: Stores, tmp_path: Path, anyio_backend: object) -> DashboardServer:
    return await start_dashboard(servers, tmp_path)


@pytest.fixture
async def anna(server: DashboardServer) -> Browser:
    """The browser of an administrator who has just signed in."""
    return await signed_in(server, "anna")


@pytest.fixture
async def vera(server: DashboardServer) -> Browser:
    """The browser of a user who may look."""
    return await signed_in(server, "vera")
