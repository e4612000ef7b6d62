"""Tests of what all pages of the dashboard have in common: who may look, and its errors."""

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer, signed_in
from tests.support.portal_server import Browser

pytestmark = pytest.mark.anyio


async def test_a_stranger_is_led_to_the_sign_in(server: DashboardServer) -> None:
    reply = await Browser(server).get(f"{ADMIN}/", follow=False)
    assert reply.status == 302
    assert reply.header("location").startswith("https://auth.example.com/go?host=admin.example.com")


async def test_a_user_who_may_not_look_is_told_so(server: DashboardServer) -> None:
    ben = await signed_in(server, "ben")
    reply = await ben.get(f"{ADMIN}/")
    assert reply.status == 403
    assert "You may not open this page" in reply.text


async def test_a_viewer_sees_no_form_of_any_kind(server: DashboardServer, vera: Browser) -> None:
    reply = await vera.get(f"{ADMIN}/")
    assert reply.status == 200
    assert "(may look)" in reply.text
    assert [form["action"] for form in reply.page.forms] == []


async def test_an_unknown_page_leads_back(server: DashboardServer, anna: Browser) -> None:
    await anna.get(f"{ADMIN}/")
    reply = await anna.get(f"{ADMIN}/nothing")
    assert reply.status == 404
    assert reply.page.links["Back to the dashboard"] == "/"


async def test_a_new_proof_leads_to_the_auth_host_and_back(
    server: DashboardServer, anna: Browser
) -> None:
    await anna.get(f"{ADMIN}/")
    reply = await anna.get(f"{ADMIN}/confirm?to=/agents%3Fafter=x")
    assert reply.status == 200
    assert reply.url.startswith("https://auth.example.com/confirm?host=admin.example.com")
    assert "admin.example.com" in reply.text
    (button,) = [found for found in reply.page.buttons if "data-passkey" in found]
    done = await anna.get(f"https://auth.example.com/go?{button['data-attempt']}")
    assert done.url == f"{ADMIN}/agents?after=x"
