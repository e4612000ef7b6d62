"""Tests of Home Assistant and its companion apps behind a sign-in: the real program.

An app has three ways: its web view signs in or is paired; a token in a header field, or as the
password of Basic; and its webhook, which the profile opens.
"""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.commands import Commands
from tests.support.entrypoint import Entrypoint
from tests.support.home_assistant import (
    CompanionApp,
    HomeAssistant,
    install,
    sign_in_by_web_view,
)
from tests.support.person import Person, pairing_code
from tests.support.stack import Authority, Stack, service
from zerotrust.access.profiles import PROFILES

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the first run installs Home Assistant
    pytest.mark.xdist_group("home_assistant"),
]

HOST = "home.localhost"
ACCESS: dict[str, Any] = {
    "auth_host": "auth.localhost",
    "users": [{"name": "anna", "groups": ["family"]}],
    "rules": [
        {
            "hosts": [HOST],
            "allow": [{"group": "family"}],
            "profile": "home_assistant",
            "basic": True,
        }
    ],
}
PROFILE = PROFILES["home_assistant"]


@dataclass
class Home:
    """A running Home Assistant behind 0Trust.

    Attributes:
        token: of Anna's phone.
        app: on Anna's phone, signed in and registered through 0Trust.
    """

    assistant: HomeAssistant
    caddy: Entrypoint
    commands: Commands
    token: str
    app: CompanionApp


@pytest.fixture(scope="module")
async def home(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    async with HomeAssistant(folder, install()) as assistant:
        services = [service(HOST, assistant.port)]
        stack = Stack(
            folder / "stack", authority, agents={"agent-1": services}, sections={"access": ACCESS}
        )
        async with stack:
            await stack.agents["agent-1"].process.wait_line("service registered")
            commands = Commands(stack.folder / "state" / "admin.sock")
            created = await commands(
                "app", "create", "--user", "anna", "--name", "Anna's phone", "--host", HOST
            )
            assert created.code == 0, created
            token = created.out.strip()
            app = CompanionApp(stack.caddy, HOST, (("X-0Trust-Token", token),))
            assert (await app.sign_in(await assistant.create_owner())).status == 200
            assert (await app.register()).status == 201
            yield Home(assistant, stack.caddy, commands, token, app)


def with_token(home: Home) -> tuple[str, str]:
    return ("X-0Trust-Token", home.token)


async def test_a_stranger_reaches_nothing_but_the_webhook(home: Home) -> None:
    for method, path in [
        ("GET", "/"),
        ("GET", "/api/"),
        ("GET", "/api/onboarding"),
        ("GET", "/auth/authorize"),
        ("GET", "/manifest.json"),
        ("GET", "/api/webhook/0123456789"),
        ("PUT", "/api/webhook/0123456789"),
        ("POST", "/api/webhooks"),
        ("POST", "/api/onboarding/users"),
        ("POST", "/auth/token"),
    ]:
        answer = await home.caddy.request(HOST, method, path, [("Content-Length", "0")])
        assert (answer.status, answer.error_code) == (401, "login_required"), (method, path)
    with pytest.raises(InvalidStatus) as refused:
        await home.caddy.websocket(HOST, "/api/websocket")
    assert refused.value.response.status_code == 401


async def test_no_other_reading_of_the_path_leads_past_the_sign_in(home: Home) -> None:
    for path in [
        "/api/webhook/../states",
        "/api/webhook/%2e%2e/states",
        "/api/webhook/..%2fstates",
        "/api/webhook/%252e%252e/states",
        "/api/webhook/..;/states",
        "//api/webhook/a",
        "/api/states;/api/webhook/a",
        "/api/states%3f/api/webhook/a",
    ]:
        answer = await home.caddy.request(HOST, "POST", path, [("Content-Length", "0")])
        assert answer.status in (400, 401), path
        assert answer.error_code is not None, path


async def test_the_app_with_a_token_in_a_field(home: Home) -> None:
    app = home.app
    answer = await home.caddy.get(HOST, "/api/", with_token(home), app.bearer)
    assert (answer.status, answer.json()) == (200, {"message": "API running."})
    options = {"additional_headers": dict([with_token(home)])}
    async with home.caddy.websocket(HOST, "/api/websocket", **options) as socket:
        assert '"auth_required"' in str(await socket.recv())


async def test_the_app_reports_to_its_webhook_without_anything(home: Home) -> None:
    answer = await home.app.report()
    assert (answer.status, answer.json()) == (200, {})


async def test_a_token_as_the_password_of_basic(home: Home) -> None:
    for token, status in ((home.token, 200), ("swordfish", 401)):
        basic = base64.b64encode(f"anna:{token}".encode()).decode()
        answer = await home.caddy.get(HOST, "/auth/providers", ("Authorization", f"Basic {basic}"))
        assert answer.status == status
    assert answer.get("www-authenticate") is not None


async def test_the_web_view_with_a_token(home: Home) -> None:
    page = await home.caddy.get(HOST, "/auth/authorize", with_token(home))
    assert page.status == 200
    assert (page.get("content-type") or "").startswith("text/html")
    answer = await sign_in_by_web_view(home.caddy, HOST, with_token(home))
    again = CompanionApp(home.caddy, HOST, (with_token(home),))
    assert (await again.sign_in(answer.json()["result"])).status == 200


async def test_the_web_view_of_a_paired_device(home: Home) -> None:
    """Anna signs in with her passkey, and lets the app's web view in with a code."""
    anna, device = (Person(home.caddy, ACCESS["auth_host"]) for _ in range(2))
    invited = await home.commands("user", "invite", "anna")
    await anna.accept_invitation(invited.out.strip())
    token = await anna.token_of(anna.auth_url("/me"))
    page = await anna.send_form(anna.auth_url("/me/devices"), csrf=token)
    await device.send_form(device.auth_url("/pair"), code=pairing_code(page))
    page = await device.open(home.caddy.url(HOST, "/auth/authorize"))
    assert page.status == 200
    assert b"Home Assistant" in page.body
    answer = await sign_in_by_web_view(home.caddy, HOST, ("Cookie", device.cookie(HOST)))
    native = CompanionApp(home.caddy, HOST, (("Cookie", device.cookie(HOST)),))
    assert (await native.sign_in(answer.json()["result"])).status == 200
    async with device.websocket(HOST, "/api/websocket") as socket:
        assert '"auth_required"' in str(await socket.recv())
        assert (await home.commands("user", "disable", "anna")).code == 0
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert (await home.caddy.get(HOST, "/api/", with_token(home))).status == 401
    assert (await home.commands("user", "enable", "anna")).code == 0


async def test_webhooks_have_a_limit_for_each_network(home: Home) -> None:
    statuses: list[int] = []
    async with await home.caddy.open(HOST, address="127.0.0.9") as client:
        while 429 not in statuses and len(statuses) < 5 * PROFILE.requests:
            answer = await client.request(
                "POST", "/api/webhook/unknown", [("Content-Length", "0")], b""
            )
            statuses.append(answer.status)
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert len(statuses) > PROFILE.requests
    assert answer.get("retry-after") is not None
    assert (await home.app.report()).status == 200


async def test_a_revoked_app_is_out(home: Home) -> None:
    created = await home.commands("app", "create", "--user", "anna", "--name", "old")
    token = ("X-0Trust-Token", created.out.strip())
    assert (await home.caddy.get(HOST, "/auth/providers", token)).status == 200
    assert (await home.commands("app", "revoke", "old")).code == 0
    assert (await home.caddy.get(HOST, "/auth/providers", token)).status == 401
