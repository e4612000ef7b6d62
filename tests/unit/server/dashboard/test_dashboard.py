"""Tests of what all pages of the dashboard have in common: who may look, and its errors."""

from unittest.mock import patch

import pytest
from starlette.requests import Request

from tests.support.dashboard_server import ADMIN, DashboardServer, send, signed_in
from tests.support.portal_server import Browser
from zerotrust.access.gate_table import GateTable
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind
from zerotrust.errors import AccessRefused, ConfigError, NotFound, StateError
from zerotrust.model.access import Access
from zerotrust.server.dashboard.visits import may_look

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


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        ({}, {"sec-fetch-site": "same-origin"}),
        ({"csrf": "x"}, {"sec-fetch-site": "same-origin"}),
        ({"csrf": "own"}, {"sec-fetch-site": "same-site"}),
        ({"csrf": "own"}, {"sec-fetch-site": "", "origin": "https://photos.example.com"}),
    ],
)
async def test_other_pages_change_nothing(
    server: DashboardServer, anna: Browser, form: dict[str, str], headers: dict[str, str]
) -> None:
    page = await anna.get(f"{ADMIN}/people/show?user=ben")
    if form.get("csrf") == "own":
        form = {"csrf": page.page.forms[-1]["fields"]["csrf"]}
    before = server.store.actions()
    reply = await anna.post(f"{ADMIN}/people/disable", {**form, "user": "ben"}, headers=headers)
    assert reply.status == 403
    assert server.store.actions() == before
    assert (await anna.get(f"{ADMIN}/people/disable")).status == 405


async def test_a_viewer_changes_nothing(server: DashboardServer, vera: Browser) -> None:
    page = await vera.get(f"{ADMIN}/audit")
    csrf = page.page.forms[-1]["fields"]["csrf"]
    reply = await vera.post(f"{ADMIN}/people/disable", {"csrf": csrf, "user": "ben"})
    assert (reply.status, "not change anything" in reply.text) == (403, True)


async def test_who_widens_proves_again_and_who_narrows_does_not(
    server: DashboardServer, anna: Browser
) -> None:
    await anna.get(f"{ADMIN}/people")
    server.store.clock.now += 901
    page = await anna.get(f"{ADMIN}/people")
    assert page.page.links["confirm that it is you"] == "/confirm?to=%2Fpeople"
    page = await anna.get(f"{ADMIN}/people/show?user=ben")
    back = "/confirm?to=%2Fpeople%2Fshow%3Fuser%3Dben"
    assert page.page.links["confirm that it is you"] == back
    reply = await send(anna, "/people", "/people/invite", user="zoe")
    assert (reply.status, "One more step" in reply.text) == (403, True)
    assert reply.page.links["Confirm that it is you"] == "/confirm?to=%2Fpeople"
    reply = await send(anna, "/people", "/people/disable", user="ben")
    assert (reply.status, server.store.actions()[-1]) == (200, "user.disabled")


async def test_errors_of_the_server_are_pages_and_strangers_text_none(
    server: DashboardServer, anna: Browser
) -> None:
    await anna.get(f"{ADMIN}/")
    for number, (error, status, title) in enumerate(
        (
            (StateError("the database is locked at /secret"), 503, "Not available just now"),
            (RuntimeError("secret"), 500, "Something went wrong"),
            (ConfigError("secret"), 500, "Something went wrong"),
            (NotFound("there is no agent x"), 404, "That is not possible"),
        )
    ):
        with patch.object(server.commands, "agents", side_effect=error):
            reply = await anna.get(f"{ADMIN}/agents?after={number}")  # which is not rendered yet
        assert reply.status == status
        assert title in reply.text
        assert "secret" not in reply.text


async def test_tokens_do_not_open_it(server: DashboardServer) -> None:
    """The gate lets in what the rule names; the pages need a user in a browser."""
    with pytest.raises(AccessRefused, match="for users who have signed in"):
        server.dashboard.parts.visit(request_with(None))
    user = Subject(kind=SubjectKind.USER, id="u_1", name="anna")
    app = Credential(CredentialKind.TOKEN, "1", digest=b"", subject=user, ends_at=9e9)
    with pytest.raises(AccessRefused):
        server.dashboard.parts.visit(request_with(app))


async def test_a_dashboard_that_has_moved_is_no_more(
    server: DashboardServer, anna: Browser
) -> None:
    await anna.get(f"{ADMIN}/")
    credential = server.store.state.index.of_kind(CredentialKind.PASS)[0]
    assert may_look(server.gates, credential, client="", now=server.store.clock())
    moved = server.site.access.model_copy(update={"admin_host": "other.example.com"})
    server.gates = GateTable(moved)
    with pytest.raises(AccessRefused, match="moved"):
        server.dashboard.parts.visit(request_with(credential))
    assert not may_look(server.gates, credential, client="", now=server.store.clock())
    server.gates = GateTable(server.site.access.model_copy(update={"admin_host": None}))
    assert not may_look(server.gates, credential, client="", now=server.store.clock())


async def test_a_user_who_has_lost_the_right_is_refused(
    server: DashboardServer, anna: Browser
) -> None:
    """The gate may have let in a token of the request, and not the user of its cookie."""
    await anna.get(f"{ADMIN}/")
    credential = server.store.state.index.of_kind(CredentialKind.PASS)[0]
    assert server.dashboard.parts.visit(request_with(credential)).may_change
    changes = {"admins": [{"group": "others"}], "viewers": []}
    server.gates = GateTable(
        Access.model_validate(server.site.access.model_dump(exclude_unset=True) | changes)
    )
    with pytest.raises(AccessRefused, match="may not look"):
        server.dashboard.parts.visit(request_with(credential))


async def test_the_key_document_is_no_page_of_it(server: DashboardServer, anna: Browser) -> None:
    await anna.get(f"{ADMIN}/")
    reply = await anna.get(f"{ADMIN}/.well-known/0trust/jwks.json")
    assert "Back to the dashboard" not in reply.page.links


def request_with(credential: Credential | None) -> Request:
    state = {"host": "admin.example.com", "client": "", "credential": credential}
    return Request({"type": "http", "headers": [], "state": state})
