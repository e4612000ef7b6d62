"""Tests of the page Doctor."""

import pytest

from tests.support.dashboard_server import ADMIN, HOSTILE, DashboardServer, send
from tests.support.portal_server import Browser
from zerotrust.model.doctor import Finding
from zerotrust.server.dashboard import doctor_page
from zerotrust.server.dashboard.fragments import View
from zerotrust.server.ops.server_examination import ExaminationResult

pytestmark = pytest.mark.anyio

URL = f"{ADMIN}/doctor"
BROKEN = Finding(
    check="dns.elsewhere",
    level="broken",
    subject="photos.example.com",
    what="photos.example.com leads to another machine",
    seen=f"answers with {HOSTILE}{'x' * 900}",
    fix="correct its A record",
)
WARNING = Finding(check="a", level="warning", subject="x", what="disk is nearly full", fix="clean")


async def test_an_administrator_examines_the_server(
    server: DashboardServer, anna: Browser, vera: Browser
) -> None:
    assert "has not been examined" in (await anna.get(URL)).text
    server.findings = [BROKEN, WARNING]
    reply = await send(anna, "/doctor", "/doctor/run")
    assert reply.url == URL
    text = " ".join(reply.page.text.split())
    assert "Broken: photos.example.com leads to another machine" in text
    assert "How it was seen: answers with" in text
    assert "What to do: correct its A record" in text
    assert "Warning: disk is nearly full" in text
    assert text.count("How it was seen") == 1
    assert "<script>alert" not in reply.text and "x" * 600 not in reply.text
    shown = await vera.get(URL)
    assert "leads to another machine" in shown.text, "viewers see what was found"


async def test_all_is_well(server: DashboardServer, anna: Browser) -> None:
    reply = await send(anna, "/doctor", "/doctor/run")
    assert "All is well." in reply.text and "Examined" in reply.text


async def test_a_long_list_is_cut(
    server: DashboardServer, anna: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_page, "ROWS", 1)
    server.findings = [BROKEN, WARNING, WARNING]
    reply = await send(anna, "/doctor", "/doctor/run")
    assert "There are 2 more" in reply.text and "disk is nearly full" not in reply.text


async def test_one_that_runs_and_one_that_failed(server: DashboardServer, anna: Browser) -> None:
    page = doctor_page.DoctorPage(server.dashboard.parts)
    view = View("/doctor")
    before = page.fragments["findings"].version(view)
    server.examination.began_at = 1_800_000_000.0
    assert page.fragments["findings"].version(view) != before, "open pages show it"
    text = (await anna.get(URL)).text
    assert "An examination has begun at" in text and "has not been examined" not in text
    server.examination.began_at = None
    server.examination.result = ExaminationResult(1_800_000_000.0, 1.0, (), "the database is gone")
    text = (await anna.get(URL)).text
    assert "failed: the database is gone." in text and "All is well" not in text


async def test_viewers_and_other_pages_begin_none(
    server: DashboardServer, anna: Browser, vera: Browser
) -> None:
    assert "Examine the server" not in (await vera.get(URL)).text
    await anna.get(URL)
    for browser in (anna, vera):
        for form in ({}, {"csrf": "x" * 43}):
            assert (await browser.post(f"{URL}/run", form)).status == 403
    # A viewer's own token, from a page that has a form for viewers.
    assert (await send(vera, "/audit", "/doctor/run")).status == 403
    assert server.examination.result is None
