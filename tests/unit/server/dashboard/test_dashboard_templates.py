"""Tests of the rendering of fragments in slices."""

import asyncio

import pytest

from zerotrust.model.traffic_admin import ConnectionInfo
from zerotrust.net import background_work
from zerotrust.server.dashboard.dashboard_templates import DashboardTemplates
from zerotrust.server.dashboard.fragments import View
from zerotrust.server.portal.static_files import StaticFiles

pytestmark = pytest.mark.anyio

ROW = ConnectionInfo(
    id="abc-1",
    number=1,
    kind="websocket",
    host="app.example.com",
    method="GET",
    path="/ws",
    client="203.0.113.7",
    user="",
    agent="home",
    service="app",
    since=None,
    received=0,
    sent=0,
    round_trip=None,
)


async def test_a_long_list_lets_other_work_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_work, "SLICE", 0.0)
    monkeypatch.setattr(background_work, "INTERVAL", 0.0)
    templates = DashboardTemplates(StaticFiles())
    values = {"view": View("/"), "connections": [ROW] * 100, "total": 100}
    rendering = asyncio.create_task(
        templates.render("connections_open", {**values, "following": "", "filters": ""})
    )
    turns = 0
    while not rendering.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100, "a turn of the loop for each row, at least"
    text = rendering.result()
    assert text.count("<tr>") == 101
    assert "anyone" in text and "unknown" in text and "no data" in text
