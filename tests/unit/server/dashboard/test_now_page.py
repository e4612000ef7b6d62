"""Tests of the page Now."""

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer
from tests.support.identities import HOME
from tests.support.portal_server import Browser

pytestmark = pytest.mark.anyio


async def test_it_shows_numbers(server: DashboardServer, anna: Browser) -> None:
    server.live.sessions.append(HOME)
    reply = await anna.get(f"{ADMIN}/")
    assert reply.status == 200, reply.text
    assert "Connected agents" in reply.text
    assert reply.page.text.count("anna") == 1
