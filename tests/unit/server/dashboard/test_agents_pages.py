"""Tests of the pages of agents: join tokens, grants, revocation."""

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer, send
from tests.support.identities import HOME
from tests.support.portal_server import Browser

pytestmark = pytest.mark.anyio

SHOW = "/agents/show?agent=home"


async def test_a_join_token_is_shown_once_with_a_code_to_scan(
    server: DashboardServer, anna: Browser
) -> None:
    reply = await send(
        anna,
        "/agents",
        "/agents/tokens/create",
        agent="home",
        hosts="photos.example.com, *.lab.example.com",
        expires="15m",
    )
    assert reply.status == 200, reply.text
    assert "0trust agent join 0trust-join-1." in reply.text
    assert '<svg class="qr"' in reply.text or 'class="qr"' in reply.text
    assert "photos.example.com, *.lab.example.com" in reply.text
    listed = await anna.get(f"{ADMIN}/agents")
    assert "0trust-join-1" not in listed.text
    assert "Open join tokens" in listed.text
    assert server.store.actions()[-1] == "token.created"
    reply = await send(anna, "/agents", "/agents/tokens/cancel", number="1")
    assert (reply.url, "Open join tokens" in reply.text) == (f"{ADMIN}/agents", False)


async def test_a_form_that_is_not_right_says_why(server: DashboardServer, anna: Browser) -> None:
    reply = await send(anna, "/agents", "/agents/tokens/create", agent="home", expires="soon")
    assert reply.status == 400
    assert "expires" in reply.page.text.lower()
    assert reply.page.links["Back to the dashboard"] == "/agents"
    reply = await send(anna, "/agents", "/agents/tokens/cancel", number="99")
    assert reply.status == 404
    assert (await anna.get(f"{ADMIN}/agents/show")).status == 404
    assert (await anna.get(f"{ADMIN}/agents/show?agent=other")).status == 404


async def test_grants_are_added_and_removed(server: DashboardServer, anna: Browser) -> None:
    server.live.sessions.append(HOME)
    reply = await send(anna, SHOW, "/agents/grants/add", agent="home", host="wiki.example.com")
    assert reply.url == f"{ADMIN}{SHOW}"
    assert "wiki.example.com" in reply.text
    reply = await send(anna, SHOW, "/agents/grants/remove?agent=home", host="wiki.example.com")
    assert "wiki.example.com" not in reply.text


async def test_an_agent_is_revoked_and_restored(server: DashboardServer, anna: Browser) -> None:
    server.live.sessions.append(HOME)
    reply = await send(anna, SHOW, "/agents/revoke", agent="home", reason="stolen <b>")
    assert server.live.cuts == [("home", None)]
    assert "stolen &lt;b&gt;" in reply.text
    reply = await send(anna, SHOW, "/agents/restore", agent="home")
    assert "Revoked" not in reply.text
