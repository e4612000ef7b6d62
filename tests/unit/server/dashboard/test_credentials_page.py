"""Tests of the page of machines, apps, share links and PINs."""

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer, send
from tests.support.portal_server import Browser

pytestmark = pytest.mark.anyio

PAGE = "/machines"


async def test_the_token_of_a_machine(server: DashboardServer, anna: Browser) -> None:
    reply = await send(anna, PAGE, "/machines/create", name="frame", lifetime="30d")
    assert "0t_m_" in reply.text
    assert "https://photos.example.com/" in reply.text
    reply = await send(anna, PAGE, "/machines/rotate", name="frame")
    assert "0t_m_" in reply.text
    listed = await anna.get(f"{ADMIN}{PAGE}")
    assert ("0t_m_" in listed.text, listed.text.count(">frame<")) == (False, 2)
    reply = await send(anna, PAGE, "/machines/revoke", name="frame")
    assert "There is no machine." in reply.text


async def test_the_token_of_an_app(server: DashboardServer, anna: Browser) -> None:
    reply = await send(
        anna, PAGE, "/machines/apps/create", user="anna", name="phone", hosts="photos.example.com"
    )
    assert "0t_a_" in reply.text
    reply = await send(anna, PAGE, "/machines/apps/revoke", name="phone")
    assert "There is no app." in reply.text


async def test_a_share_link(server: DashboardServer, anna: Browser) -> None:
    url = "https://photos.example.com/album/7"
    reply = await send(anna, PAGE, "/machines/links/create", url=url, lifetime="1h", uses="3")
    assert "0t_l_" in reply.text
    listed = await anna.get(f"{ADMIN}{PAGE}")
    assert "photos.example.com/album/7" in listed.text
    (button,) = [one for one in listed.page.buttons if one.get("name") == "id"]
    reply = await send(anna, PAGE, button["formaction"], id=button["value"])
    assert "There is no share link." in reply.text


async def test_a_pin(server: DashboardServer, anna: Browser) -> None:
    reply = await send(anna, PAGE, "/machines/pins/set", host="party.example.com", pin="12")
    assert (reply.status, "6 to 32 digits" in reply.text) == (400, True)
    reply = await send(anna, PAGE, "/machines/pins/set", host="party.example.com", pin="482913")
    assert "party.example.com" in reply.text
    reply = await send(anna, PAGE, "/machines/pins/clear", host="party.example.com")
    assert "No host name has a PIN." in reply.text
