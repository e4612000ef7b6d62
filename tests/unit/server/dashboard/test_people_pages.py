"""Tests of the pages of people."""

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer, send, signed_in
from tests.support.portal_server import Browser

pytestmark = pytest.mark.anyio

BEN = "/people/show?user=ben"


async def test_an_invitation_is_shown_with_a_code_to_scan(
    server: DashboardServer, anna: Browser
) -> None:
    reply = await send(
        anna, "/people", "/people/invite", user="zoe", email="zoe@example.com", groups="family kids"
    )
    assert "https://auth.example.com/invite#0t_i_" in reply.text
    assert "No rule names the group" in reply.text
    listed = await anna.get(f"{ADMIN}/people")
    assert "zoe@example.com" in listed.text
    assert "0t_i_" not in listed.text


async def test_a_user_is_disabled_and_enabled(server: DashboardServer, anna: Browser) -> None:
    await signed_in(server, "ben")
    reply = await send(anna, BEN, "/people/disable", user="ben")
    assert (reply.url, "disabled" in reply.text) == (f"{ADMIN}{BEN}", True)
    assert "signed in nowhere" in reply.text
    reply = await send(anna, BEN, "/people/enable", user="ben")
    assert "disabled" not in reply.text


async def test_sign_ins_end(server: DashboardServer, anna: Browser) -> None:
    await signed_in(server, "ben")
    reply = await anna.get(f"{ADMIN}{BEN}")
    (button,) = [one for one in reply.page.buttons if one.get("name") == "number"]
    reply = await send(anna, BEN, button["formaction"], number=button["value"])
    assert (reply.url, "signed in nowhere" in reply.text) == (f"{ADMIN}{BEN}", True)
    await signed_in(server, "ben")
    reply = await send(anna, BEN, "/people/sign-ins/end", user="ben")
    assert "signed in nowhere" in reply.text


async def test_groups_and_removal(server: DashboardServer, anna: Browser) -> None:
    await server.store.people.invite("zoe", email=None, groups=[], actor="uid 0")
    zoe = "/people/show?user=zoe"
    reply = await send(anna, zoe, "/people/groups/add", user="zoe", group="kids")
    assert "kids" in reply.text
    reply = await send(anna, zoe, "/people/groups/remove?user=zoe", group="kids")
    assert "in no group" in reply.text
    reply = await send(anna, zoe, "/people/remove", user="zoe")
    assert (reply.url, "zoe" in reply.page.text) == (f"{ADMIN}/people", False)
    assert (await anna.get(f"{ADMIN}{zoe}")).status == 404
    assert (await anna.get(f"{ADMIN}/people/show")).status == 404


async def test_who_leaves_a_group_that_a_rule_refuses_gets_a_right(
    server: DashboardServer, anna: Browser
) -> None:
    await server.store.people.invite("zoe", email=None, groups=["kids"], actor="uid 0")
    rule = server.site.access.rules[0]
    denying = rule.model_validate(
        {**rule.model_dump(exclude_unset=True), "deny": [{"group": "kids"}]}
    )
    server.store.state.access = server.site.access.model_copy(update={"rules": [denying]})
    await anna.get(f"{ADMIN}/people")
    server.store.clock.now += 1000
    reply = await send(
        anna, "/people/show?user=zoe", "/people/groups/remove?user=zoe", group="kids"
    )
    assert (reply.status, "One more step" in reply.text) == (403, True)
