"""Tests of commands about people, machines and links to a running server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.backends import Origin, WsEcho
from tests.support.client import Response
from tests.support.commands import Commands
from tests.support.stack import Authority, Stack, service

pytestmark = [pytest.mark.anyio, pytest.mark.component, pytest.mark.timeout(180)]

PHOTOS, CHAT = "photos.example.com", "chat.example.com"
ADMIN = "admin.example.com"
HTTPS = ("X-Forwarded-Proto", "https")
ACCESS: dict[str, Any] = {
    "auth_host": "auth.example.com",
    "users": [{"name": "carla", "groups": ["kids"]}],
    "rules": [
        {
            "hosts": [PHOTOS],
            "allow": [{"group": "family"}, {"machine": "frame"}, {"pin": True}],
            "links": True,
        },
        {"hosts": [CHAT], "allow": [{"machine": "*"}, {"group": "family"}]},
    ],
}


class Scenario:
    """A server with the section `access`, an agent, and commands."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.command = Commands(stack.folder / "state" / "admin.sock")
        self.secrets: list[str] = []

    async def secret(self, *words: str) -> str:
        """Run a command that prints a secret, alone."""
        done = await self.command(*words)
        assert done.code == 0, done
        (line,) = done.out.splitlines()
        self.secrets.append(line.rpartition("#")[2])
        return line

    async def said(self, *words: str) -> str:
        done = await self.command(*words)
        assert done.code == 0, done
        return done.out

    async def get(self, host: str, path: str, token: str | None = None) -> Response:
        fields = [HTTPS] if token is None else [HTTPS, ("X-0Trust-Token", token)]
        return await self.stack.api.get(host, path, *fields)

    def websocket(self, token: str) -> Any:
        return self.stack.api.websocket(
            CHAT, additional_headers={HTTPS[0]: HTTPS[1], "X-0Trust-Token": token}
        )


@contextlib.asynccontextmanager
async def running(folder: Path, authority: Authority, **access: Any) -> AsyncIterator[Scenario]:
    async with Origin(folder) as origin, WsEcho(folder) as echo:
        services = [service(PHOTOS, origin.port), service(CHAT, echo.port)]
        stack = Stack(
            folder / "stack",
            authority,
            agents={"home": services},
            with_caddy=False,
            sections={"access": {**ACCESS, **access}},
        )
        async with stack:
            await stack.server.wait_line("service registered.*chat")
            scenario = Scenario(stack)
            yield scenario
        said = stack.server.text()
        assert "Traceback" not in said, said
        assert not [secret for secret in scenario.secrets if secret in said]


async def test_a_user_from_invitation_to_disabling(tmp_path: Path, authority: Authority) -> None:
    async with running(tmp_path, authority) as scenario:
        url = await scenario.secret("user", "invite", "anna")
        assert url.startswith("https://auth.example.com/invite#0t_i_")
        listed = await scenario.said("user", "list")
        assert [line.split()[0] for line in listed.splitlines()[1:]] == ["anna", "carla"]
        explain = ("access", "explain", f"https://{PHOTOS}/album/7", "--user", "anna")
        assert (await scenario.said(*explain)).startswith("user anna may not enter")
        assert "is in group family" in await scenario.said("group", "add", "family", "anna")
        assert (await scenario.said(*explain)).startswith("user anna may enter, by rules[0].allow")
        disabled = await scenario.said("user", "disable", "anna")
        assert disabled.startswith("anna is disabled; 0 sign-ins ended")
        explained = await scenario.said(*explain)
        assert explained.startswith("user anna has to sign in")
        assert "user anna, groups: family, which does not count: access withdrawn" in explained
        (anna, _) = (await scenario.command("user", "list", "--json")).json()["users"]
        assert (anna["user"], anna["state"], anna["groups"]) == ("anna", "disabled", ["family"])
        gone = await scenario.command("user", "disable", "ana")
        assert (gone.code, gone.err) == (
            1,
            'error: there is no user ana, did you mean "anna"?\n',
        )
        assert await _actions(scenario) == [
            "user.added",
            "user.invited",
            "group.added",
            "user.disabled",
        ]


async def test_a_machine_calls_the_admin_api(tmp_path: Path, authority: Authority) -> None:
    admins = {"admin_host": ADMIN, "admins": [{"group": "admins"}]}
    async with running(tmp_path, authority, **admins) as scenario:
        plain = await scenario.secret("machine", "create", "frame")
        token = await scenario.secret("machine", "create", "backup", "--admin")
        answer = await scenario.get(ADMIN, "/v1/agents", token)
        assert (answer.status, [one["id"] for one in answer.json()["agents"]]) == (200, ["home"])
        assert (await scenario.get(ADMIN, "/v1/agents", plain)).status == 403
        assert (await scenario.get(ADMIN, "/v1/agents")).status == 401
        assert (await scenario.get(PHOTOS, "/v1/agents", token)).status == 403
        async with await scenario.stack.api.open(ADMIN) as client:
            fields = [HTTPS, ("X-0Trust-Token", token)]
            grant = b'{"agent": "home", "host": "new.example.com"}'
            made = await client.request("POST", "/v1/grants/add", fields, grant)
            assert (made.status, made.json()["changed"]) == (200, True)
            wrong = await client.request("POST", "/v1/grants/add", fields, b"{}")
            assert (wrong.status, wrong.json()["code"]) == (400, "bad_call")
        (record,) = (
            await scenario.command("audit", "list", "--action", "grant.added", "--json")
        ).json()["records"]
        assert record["actor"] == "machine backup"
        await scenario.said("machine", "revoke", "backup")
        assert (await scenario.get(ADMIN, "/v1/agents", token)).status == 401


async def test_a_machine_from_creation_to_revocation(tmp_path: Path, authority: Authority) -> None:
    async with running(tmp_path, authority) as scenario:
        assert (await scenario.get(PHOTOS, "/echo")).status == 401
        first = await scenario.secret("machine", "create", "frame")
        assert (await scenario.get(PHOTOS, "/echo", first)).status == 200
        assert (await scenario.get(PHOTOS, "/echo", f"{first[:-1]}-")).status == 401
        second = await scenario.secret("machine", "rotate", "frame", "--keep", "1h")
        assert (await scenario.get(PHOTOS, "/echo", first)).status == 200
        async with scenario.websocket(first) as old, scenario.websocket(second) as new:
            for each in (old, new):
                await each.send("here")
                assert await asyncio.wait_for(each.recv(), 5) == "here"
            revoked = await scenario.said("machine", "revoke", "frame")
            assert revoked == "2 tokens of machine frame revoked\n"
            for each in (old, new):
                with pytest.raises(ConnectionClosed) as closed:
                    await asyncio.wait_for(each.recv(), 5)
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
                    1008,
                    "access withdrawn",
                )
        for token in (first, second):
            assert (await scenario.get(PHOTOS, "/echo", token)).status == 401
            with pytest.raises(InvalidStatus):
                async with scenario.websocket(token):
                    pass
        assert await _actions(scenario) == [
            "machine.created",
            "machine.rotated",
            "machine.revoked",
            "machine.revoked",
        ]


async def test_an_app_ends_with_its_user(tmp_path: Path, authority: Authority) -> None:
    async with running(tmp_path, authority) as scenario:
        await scenario.said("group", "add", "family", "carla")
        create = ("app", "create", "--user", "carla", "--name", "Carla's phone")
        token = await scenario.secret(*create, "--host", PHOTOS)
        assert (await scenario.get(PHOTOS, "/echo", token)).status == 200
        assert (await scenario.get(CHAT, "/", token)).status == 401
        explained = await scenario.said(
            "access", "explain", f"https://{PHOTOS}/", "--app", "Carla's phone"
        )
        assert explained.startswith("app Carla's phone may enter")
        await scenario.said("user", "disable", "carla")
        assert (await scenario.get(PHOTOS, "/echo", token)).status == 401
        assert await scenario.said("app", "list") == "no apps\n"


async def test_links_and_pins(tmp_path: Path, authority: Authority) -> None:
    pin = tmp_path / "pin"
    pin.write_text("836251\n")
    async with running(tmp_path, authority) as scenario:
        scenario.secrets.append("836251")
        url = await scenario.secret(
            "share", "create", f"https://{PHOTOS}/album/7", "--for", "1h", "--pin-file", str(pin)
        )
        assert url.startswith(f"https://{PHOTOS}/.0trust/share#0t_l_")
        (link,) = (await scenario.command("share", "list", "--json")).json()["links"]
        assert (link["path"], link["pin"]) == ("/album/7", True)
        refused = await scenario.command("share", "create", f"https://{CHAT}/")
        assert (refused.code, "write links: true into it" in refused.err) == (1, True)
        assert "is revoked" in await scenario.said("share", "revoke", link["id"])
        set_pin = ("pin", "set", PHOTOS, "--pin-file", str(pin))
        assert await scenario.said(*set_pin) == f"the PIN of {PHOTOS} is set\n"
        assert PHOTOS in await scenario.said("pin", "list")
        await scenario.said("pin", "clear", PHOTOS)
        assert await _actions(scenario) == [
            "link.created",
            "link.revoked",
            "pin.set",
            "pin.cleared",
        ]


async def test_a_server_without_the_section(tmp_path: Path, authority: Authority) -> None:
    stack = Stack(tmp_path, authority, agents={}, with_caddy=False)
    async with stack:
        await stack.server.wait_line("server ready")
        done = await Commands(tmp_path / "state" / "admin.sock")("machine", "create", "frame")
        assert (done.code, done.out) == (1, "")
        assert "has no section `access`" in done.err


async def _actions(scenario: Scenario) -> list[str]:
    """Return the actions of administrators in the audit log, and check that it has no secret."""
    exported = (await scenario.command("audit", "export")).out
    assert not [secret for secret in scenario.secrets if secret in exported]
    assert (await scenario.command("audit", "verify")).code == 0
    found = (await scenario.command("audit", "list", "--json")).json()["records"]
    return [
        one["action"]
        for one in found
        if one["actor"].startswith("uid ") and not one["action"].startswith("audit.")
    ]
