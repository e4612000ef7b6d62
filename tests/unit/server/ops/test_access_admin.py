"""Tests of the admin API about people, tokens and links, over a real socket."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.support.access_parts import NOW, StandingParts, add_sign_in
from tests.support.admin_socket import admin_client
from tests.support.identities import DirectoryServer, directory_server, listening
from zerotrust.access.secret_format import APP, INVITATION, LINK, MACHINE, is_secret
from zerotrust.db import audit
from zerotrust.model.access import Access
from zerotrust.server.access.people import ProviderAccount
from zerotrust.server.access.sign_ins import BrowserInfo

pytestmark = pytest.mark.anyio

ACCESS: dict[str, Any] = {
    "auth_host": "auth.example.com",
    "admins": [{"group": "admins"}],
    "identity_providers": {
        "main": {
            "issuer": "https://sso.example.org",
            "client_id": "0trust",
            "groups_claim": "groups",
        }
    },
    "rules": [
        {
            "hosts": ["photos.example.com"],
            "allow": [{"group": "family"}, {"machine": "fr*"}],
            "links": True,
        },
        {
            "hosts": ["home.example.com"],
            "allow": [{"group": "family"}],
            "deny": [{"group": "kids"}],
        },
        {"hosts": ["party.example.com"], "allow": [{"pin": True}]},
        {"hosts": ["shop.example.com"], "allow": "anyone"},
        {"hosts": ["ops.example.com"], "allow": [{"group": "main/ops"}]},
    ],
}


class Asker:
    """A client of the admin API."""

    def __init__(self, client: httpx2.AsyncClient, server: DirectoryServer) -> None:
        self.client = client
        self.server = server
        self.database = server.database

    def sign_in(self, user: str, *, browser: str = "Firefox") -> None:
        add_sign_in(self.database, user, browser=browser)

    def actions(self) -> list[tuple[str, str]]:
        with self.database.transaction() as session:
            return [(record.actor, record.action) for record in audit.records(session)]

    async def get(self, path: str, status: int = 200, **said: Any) -> Any:
        return self._json(await self.client.get(path, params=said), status)

    async def post(self, path: str, status: int = 200, **said: Any) -> Any:
        return self._json(await self.client.post(path, json=said), status)

    @staticmethod
    def _json(response: httpx2.Response, status: int) -> Any:
        assert response.status_code == status, response.text
        return response.json()


@asynccontextmanager
async def asking(
    folder: Path, *, access: bool = True, https_port: int = 443
) -> AsyncIterator[Asker]:
    with directory_server(folder) as server:
        if access:
            server.access = StandingParts(
                server.database, Access.model_validate(ACCESS), https_port=https_port
            )
        async with listening(server):
            async with admin_client(server.socket) as client:
                yield Asker(client, server)


async def test_without_the_section_every_endpoint_says_how_to_begin(tmp_path: Path) -> None:
    async with asking(tmp_path, access=False) as asker:
        for path, said in (
            ("/v1/users/disable", {"user": "anna"}),
            ("/v1/machines/create", {"name": "frame"}),
            ("/v1/links/create", {"url": "https://a.example/"}),
            ("/v1/pins/clear", {"host": "a.example"}),
        ):
            refused = await asker.post(path, 409, **said)
            assert refused["code"] == "access_off"
            assert "begin with: access: {auth_host: auth.example.com, rules:" in refused["error"]
        for path in ("users", "groups", "sessions", "machines", "apps", "links", "pins"):
            assert (await asker.get(f"/v1/{path}", 409))["code"] == "access_off"


async def test_a_user_from_invitation_to_removal(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        made = await asker.post("/v1/users/invite", user="anna", groups=["family"])
        address, _, secret = made["url"].partition("#")
        assert address == "https://auth.example.com/invite"
        assert is_secret(secret, INVITATION)
        assert (made["user"], made["warnings"]) == ("anna", [])
        assert {actor for actor, _ in asker.actions()} == {f"uid {os.getuid()}"}
        asker.sign_in("anna")
        asker.sign_in("anna", browser="Safari")
        (user,) = (await asker.get("/v1/users"))["users"]
        assert (user["user"], user["state"], user["sign_ins"]) == ("anna", "enabled", 2)
        assert (user["groups"], user["source"]) == (["family"], "database")
        shown = await asker.get("/v1/users/show", user="anna")
        assert [one["browser"] for one in shown["sessions"]] == ["Safari", "Firefox"]
        assert shown["apps"] == []
        done = await asker.post("/v1/users/disable", user="anna")
        assert done == {"user": "anna", "sign_ins": 2, "warnings": []}
        assert (await asker.get("/v1/users"))["users"][0]["state"] == "disabled"
        await asker.post("/v1/users/enable", user="anna")
        assert (await asker.get("/v1/users"))["users"][0]["disabled_at"] is None
        await asker.post("/v1/users/remove", user="anna")
        assert (await asker.get("/v1/users"))["users"] == []


async def test_an_unknown_user_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        await asker.post("/v1/users/invite", user="anna")
        refused = await asker.post("/v1/users/disable", 404, user="ana")
        assert refused == {
            "error": 'there is no user ana, did you mean "anna"?',
            "code": "not_found",
        }
        other = await asker.get("/v1/users/show", 404, user="zoe")
        assert other["error"] == "there is no user zoe; list them with: 0trust user list"
        for path in ("/v1/users/enable", "/v1/users/remove", "/v1/sessions/end"):
            await asker.post(path, 404, user="ana")
        await asker.post("/v1/apps/create", 404, user="ana", name="x")
        for path in ("/v1/sessions", "/v1/apps"):
            await asker.get(path, 404, user="ana")


async def test_groups(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        made = await asker.post("/v1/users/invite", user="anna", groups=["famly"])
        assert made["warnings"] == ['no rule names the group "famly", did you mean "family"?']
        added = await asker.post("/v1/groups/add", group="kids", user="anna")
        assert added == {"group": "kids", "user": "anna", "changed": True, "warnings": []}
        assert (await asker.post("/v1/groups/add", group="chess", user="anna"))["warnings"] == [
            'no rule names the group "chess"'
        ]
        removed = await asker.post("/v1/groups/remove", group="chess", user="anna")
        assert removed["changed"]
        assert not (await asker.post("/v1/groups/remove", group="x", user="anna"))["changed"]
        groups = (await asker.get("/v1/groups"))["groups"]
        assert [(one["group"], one["users"], one["named"]) for one in groups] == [
            ("admins", [], True),
            ("family", [], True),
            ("famly", ["anna"], False),
            ("kids", ["anna"], True),
            ("main/ops", [], True),
        ]


async def test_sessions(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        for name in ("anna", "ben"):
            await asker.post("/v1/users/invite", user=name)
            asker.sign_in(name)
        asker.sign_in("anna")
        assert [one["number"] for one in (await asker.get("/v1/sessions"))["sessions"]] == [3, 2, 1]
        (ben,) = (await asker.get("/v1/sessions", user="ben"))["sessions"]
        assert (ben["client"], ben["seen_at"], ben["ends_at"]) == (
            "203.0.113.7",
            NOW + 60,
            NOW + 3600,
        )
        assert await asker.post("/v1/sessions/end", number=2) == {"ended": 1}
        await asker.post("/v1/sessions/end", 404, number=2)
        assert await asker.post("/v1/sessions/end", user="anna") == {"ended": 2}
        for said in ({}, {"number": 1, "user": "anna"}):
            assert "either" in (await asker.post("/v1/sessions/end", 400, **said))["error"]


async def test_a_machine_from_creation_to_revocation(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        made = await asker.post("/v1/machines/create", name="frame")
        assert is_secret(made["secret"], MACHINE)
        assert (made["example"], made["expires_at"]) == ("photos.example.com", None)
        assert made["warnings"] == []
        again = await asker.post("/v1/machines/rotate", name="frame", keep="2h")
        assert again["secret"] != made["secret"]
        listed = (await asker.get("/v1/machines"))["tokens"]
        assert {(one["name"], one["expires_at"]) for one in listed} == {
            ("frame", NOW + 7200),
            ("frame", None),
        }
        assert "secret" not in listed[0]
        done = await asker.post("/v1/machines/revoke", name="frame")
        assert done == {"name": "frame", "revoked": 2}
        assert (await asker.post("/v1/machines/revoke", 404, name="frame"))["code"] == "not_found"


async def test_a_machine_that_no_rule_allows_is_warned_about(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        made = await asker.post(
            "/v1/machines/create",
            name="ci-1",
            hosts=["*.lab.example.com", "shop.example.com"],
            lifetime="90d",
        )
        assert made["warnings"] == [
            "shop.example.com is public: it asks for no token",
            "no rule allows this machine yet; add to `allow` of a rule: { machine: ci-1 }",
        ]
        assert (made["example"], made["expires_at"]) == ("shop.example.com", NOW + 90 * 86400)


async def test_apps(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        await asker.post("/v1/users/invite", user="anna")
        made = await asker.post(
            "/v1/apps/create", user="anna", name="Anna's phone", hosts=["photos.example.com"]
        )
        assert is_secret(made["secret"], APP)
        assert (made["example"], made["warnings"]) == ("photos.example.com", [])
        (app,) = (await asker.get("/v1/apps", user="anna"))["tokens"]
        assert (app["user"], app["hosts"]) == ("anna", ["photos.example.com"])
        assert (await asker.get("/v1/machines"))["tokens"] == []
        again = await asker.post("/v1/apps/rotate", name="Anna's phone")
        assert again["hosts"] == ["photos.example.com"]
        assert (await asker.post("/v1/apps/revoke", name="Anna's phone"))["revoked"] == 2


async def test_a_verdict_by_the_way_of_signing_in(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        assert asker.server.access is not None
        account = ProviderAccount(
            provider="main", subject="17", groups=("ops",), email="dora@example.com"
        )
        await asker.server.access.sign_ins.by_provider(account, BrowserInfo(), spent=b"s" * 32)
        (dora,) = (await asker.get("/v1/users"))["users"]
        assert dora["providers"] == ["main"]
        asked = {"url": "https://ops.example.com/", "user": dora["user"]}
        found = await asker.post("/v1/access/explain", **asked)
        assert (found["verdict"], found["reason"]) == ("allow", "rules[4].allow")
        assert (await asker.post("/v1/access/explain", **asked, provider="main")) == found
        await asker.post("/v1/users/disable", user=dora["user"])
        assert (await asker.post("/v1/access/explain", **asked))["verdict"] == "sign_in"
        refused = await asker.post("/v1/access/explain", 400, **asked, provider="other")
        assert refused["error"].endswith("has not signed in at other yet; providers: main")


async def test_urls_have_the_port(tmp_path: Path) -> None:
    async with asking(tmp_path, https_port=8443) as asker:
        made = await asker.post("/v1/users/invite", user="anna")
        assert made["url"].startswith("https://auth.example.com:8443/invite#0t_i_")
        made = await asker.post("/v1/links/create", url="https://photos.example.com:8443/a")
        assert made["url"].startswith("https://photos.example.com:8443/.0trust/share#0t_l_")
        found = await asker.get("/v1/access")
        assert found["auth_url"] == "https://auth.example.com:8443"


async def test_share_links(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        made = await asker.post(
            "/v1/links/create",
            url="https://photos.example.com/album/7",
            lifetime="1h",
            pin="123456",
            uses=3,
        )
        address, _, secret = made["url"].partition("#")
        assert address == "https://photos.example.com/.0trust/share"
        assert is_secret(secret, LINK)
        (link,) = (await asker.get("/v1/links"))["links"]
        assert (link["path"], link["methods"], link["pin"], link["uses_left"]) == (
            "/album/7",
            ["GET", "HEAD"],
            True,
            3,
        )
        assert link["created_by"] == f"uid {os.getuid()}"
        assert "pin_hash" not in link
        done = await asker.post("/v1/links/revoke", id=link["id"])
        assert done == {"id": link["id"], "passes": 0}
        await asker.post("/v1/links/revoke", 404, id=link["id"])


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            {"url": "https://home.example.com/"},
            "the rule of home.example.com allows no share links; write links: true into it"
            " (hosts: [home.example.com])",
        ),
        (
            {"url": "https://new.example.com/"},
            "no rule names new.example.com; write one with links: true",
        ),
        ({"url": "https://shop.example.com/"}, "shop.example.com is public"),
        ({"url": "https://auth.example.com/"}, "has the server's own pages"),
        ({"url": "photos.example.com/album"}, "is no address of a service"),
        ({"url": "https://photos.example.com/", "lifetime": "31d"}, "30 days at most"),
        ({"url": "https://photos.example.com/", "methods": ["GET IT"]}, "is no method"),
        ({"url": "https://photos.example.com/", "uses": 0}, "uses: must be at least 1"),
        ({"url": "https://photos.example.com/", "lifetime": "soon"}, 'invalid duration "soon"'),
    ],
)
async def test_what_cannot_be_shared(tmp_path: Path, said: dict[str, Any], error: str) -> None:
    async with asking(tmp_path) as asker:
        assert error in (await asker.post("/v1/links/create", 400, **said))["error"]
        assert (await asker.get("/v1/links"))["links"] == []


async def test_pins(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        done = await asker.post("/v1/pins/set", host="Party.example.com", pin=" 123456\n")
        assert done == {"host": "party.example.com", "changed": True, "warnings": []}
        home = await asker.post("/v1/pins/set", host="home.example.com", pin="123456")
        assert "asks for no PIN yet; add to its `allow`: { pin: true }" in home["warnings"][0]
        shop = await asker.post("/v1/pins/set", host="shop.example.com", pin="123456")
        assert "is public" in shop["warnings"][0]
        hosts = [one["host"] for one in (await asker.get("/v1/pins"))["pins"]]
        assert hosts == ["home.example.com", "party.example.com", "shop.example.com"]
        refused = await asker.post("/v1/pins/set", 400, host="auth.example.com", pin="123456")
        assert "has the server's own pages" in refused["error"]
        assert (await asker.post("/v1/pins/clear", host="shop.example.com"))["changed"]
        assert not (await asker.post("/v1/pins/clear", host="shop.example.com"))["changed"]


@pytest.mark.parametrize("pin", ["12345", "1234567x", "١٢٣٤٥٦", "1" * 33, ["1", "2"], 123456])
async def test_an_invalid_pin_is_not_repeated(tmp_path: Path, pin: Any) -> None:
    async with asking(tmp_path) as asker:
        with capture_logs() as logs:
            refused = await asker.post("/v1/pins/set", 400, host="party.example.com", pin=pin)
        assert refused["error"] == "pin: a PIN has 6 to 32 digits"
        assert str(pin) not in str(logs)
        assert (await asker.get("/v1/pins"))["pins"] == []


async def test_secrets_are_in_no_log_line(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        with capture_logs() as logs:
            invited = await asker.post("/v1/users/invite", user="anna")
            machine = await asker.post("/v1/machines/create", name="frame")
            await asker.post("/v1/pins/set", host="party.example.com", pin="836251")
        for secret in (invited["url"].partition("#")[2], machine["secret"], "836251"):
            assert secret not in str(logs)
