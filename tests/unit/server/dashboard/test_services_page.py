"""Tests of the page Services."""

from unittest.mock import patch

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer
from tests.support.identities import home
from tests.support.portal_server import Browser
from zerotrust.server.dashboard.fragments import View
from zerotrust.server.dashboard.now_page import NowPage
from zerotrust.server.dashboard.services_page import ServicesPage
from zerotrust.server.ops.service_admin import ServiceAdmin

pytestmark = pytest.mark.anyio


async def test_details_are_looked_up_for_the_rows_of_one_page(
    server: DashboardServer, anna: Browser
) -> None:
    for number in range(101):
        server.registry.expect(f"host-{number:03}.example.com", "home", "web")
    with patch.object(ServiceAdmin, "view", autospec=True, side_effect=ServiceAdmin.view) as view:
        reply = await anna.get(f"{ADMIN}/services?host=HOST-")
    assert view.call_count == 100
    assert "host-099" in reply.text and "host-100" not in reply.text
    reply = await anna.get(f"{ADMIN}{reply.page.links['Next 100']}")
    assert "host-100" in reply.text and "host-099" not in reply.text


async def test_a_list_without_streams_does_not_change_with_them(server: DashboardServer) -> None:
    parts = server.dashboard.parts
    lists = [ServicesPage(parts).fragments["services"], NowPage(parts).fragments["attention"]]
    numbers = NowPage(parts).fragments["numbers"]
    server.live.sessions[:] = [home(stream_count=1)]
    before = [one.version(View("/")) for one in lists]
    shown = numbers.version(View("/"))
    server.live.sessions[:] = [home(stream_count=2)]
    assert [one.version(View("/")) for one in lists] == before
    assert numbers.version(View("/")) != shown
    server.live.sessions[:] = [home(services={})]
    assert [one.version(View("/")) for one in lists] != before
