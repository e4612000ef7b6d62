"""Tests of the admin API over a real socket: answers and access control."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.support.admin_socket import admin_client
from tests.support.identities import HOME, DirectoryServer, directory_server, listening, new_csr
from zerotrust.db import audit
from zerotrust.pki import join_token
from zerotrust.server.identity.agent_directory import FILE
from zerotrust.server.ops import admin
from zerotrust.server.ops.admin import AdminChannel
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.capture_admin import CaptureAdmin
from zerotrust.server.ops.connection_admin import ConnectionAdmin
from zerotrust.server.ops.service_admin import ServiceAdmin

pytestmark = pytest.mark.anyio


@dataclass
class Asker:
    """A client of the admin API."""

    server: DirectoryServer
    channel: AdminChannel
    client: httpx2.AsyncClient

    async def ask(self, method: str, path: str, status: int = 200, **said: Any) -> Any:
        if method == "GET":
            response = await self.client.get(path, params=said)
        else:
            response = await self.client.request(method, path, json=said)
        assert response.status_code == status, response.text
        return response.json()

    async def get(self, path: str, status: int = 200, **said: Any) -> Any:
        return await self.ask("GET", path, status, **said)

    async def post(self, path: str, status: int = 200, **said: Any) -> Any:
        return await self.ask("POST", path, status, **said)


@asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[Asker]:
    with directory_server(folder) as server:
        async with listening(server) as channel:
            async with admin_client(server.socket) as client:
                yield Asker(server, channel, client)


def kept(server: DirectoryServer) -> list[tuple[str, str]]:
    with server.database.transaction() as session:
        return [(record.actor, record.action) for record in audit.records(session)]


async def test_an_agent_from_its_join_token_to_its_revocation(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        made = await asker.post(
            "/v1/tokens/create", agent="home", hosts=["A.example", "*.lab.example"], expires="2h"
        )
        assert set(made) == {"number", "agent", "hosts", "expires_at", "server", "line", "warnings"}
        line = join_token.parse(made["line"])
        assert (line.server, made["server"]) == (
            "tunnel.example.com:8443",
            "tunnel.example.com:8443",
        )
        assert made["hosts"] == ["a.example", "*.lab.example"]
        assert made["expires_at"] == int(asker.server.clock.now.timestamp()) + 7200
        await asker.server.agent_directory.join(line.secret, new_csr(), "203.0.113.7")
        (token,) = (await asker.get("/v1/tokens"))["tokens"]
        assert (token["state"], token["agent"], token["cancelled_at"]) == ("used", "home", None)
        asker.server.live.sessions = [HOME]
        (agent,) = (await asker.get("/v1/agents"))["agents"]
        assert (agent["id"], agent["state"], agent["hosts"]) == ("home", "connected", 2)
        assert agent["certificate_ends_at"] == int(HOME.certificate_ends)
        assert agent["sessions"] == [
            {
                "generation": 3,
                "since": 1_800_000_000,
                "peer": "203.0.113.7:4711",
                "software": "0trust/1",
                "serial": "abc",
                "certificate_ends_at": 1_900_000_000,
                "services": 2,
                "streams": 4,
                "connected": True,
                "round_trip": 0.012,
            }
        ]
        done = await asker.post("/v1/agents/revoke", agent="home", reason="stolen")
        assert (done["sessions"], done["streams"], done["reason"], done["serial"]) == (
            1,
            4,
            "stolen",
            None,
        )
        shown = await asker.get("/v1/agents/show", agent="home")
        assert shown["agent"]["state"] == "revoked"
        assert [one["host"] for one in shown["grants"]] == ["*.lab.example", "a.example"]
        assert [one["reason"] for one in shown["revocations"]] == ["stolen"]
        assert len(shown["certificates"]) == len(shown["tokens"]) == 1
        assert await asker.post("/v1/agents/restore", agent="home") == {"done": True}
        assert (await asker.get("/v1/agents"))["agents"][0]["state"] == "away"
        uid = f"uid {os.getuid()}"
        assert kept(asker.server) == [
            (uid, "token.created"),
            ("203.0.113.7", "agent.joined"),
            (uid, "agent.revoked"),
            (uid, "agent.restored"),
        ]


async def test_tokens_open_cancelled_and_expired(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        for agent in ("a", "b"):
            await asker.post("/v1/tokens/create", agent=agent)
        cancelled = await asker.post("/v1/tokens/cancel", number=2)
        assert (cancelled["state"], cancelled["number"]) == ("cancelled", 2)
        asker.server.clock.forward(hours=-3)
        await asker.post("/v1/tokens/create", agent="c", expires=60)
        states = {one["agent"]: one["state"] for one in (await asker.get("/v1/tokens"))["tokens"]}
        assert states == {"a": "open", "b": "cancelled", "c": "expired"}
        assert (await asker.post("/v1/tokens/cancel", 404, number=2))["code"] == "not_found"


async def test_a_server_that_others_know_by_another_name(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        made = await asker.post("/v1/tokens/create", agent="home", server="other.example.com:443")
        assert made["server"] == "other.example.com:443"
        assert "agents will refuse it" in made["warnings"][0]
        assert (
            "no valid port"
            in (await asker.post("/v1/tokens/create", 400, agent="home", server="x:y"))["error"]
        )
        wide = await asker.post("/v1/tokens/create", agent="home", hosts=["*.co.uk"])
        assert "public suffix" in wide["warnings"][0]


async def test_grants_of_both_kinds(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        asker.server.authorization.grants.replace(
            FILE, [("home", "f.example"), ("home", "a.example")]
        )
        changed = await asker.post("/v1/grants/add", agent="home", host="A.example.")
        assert changed == {"agent": "home", "host": "a.example", "changed": True, "warnings": []}
        assert not (await asker.post("/v1/grants/add", agent="home", host="a.example"))["changed"]
        await asker.post("/v1/grants/add", agent="work", host="*.co.uk")
        found = (await asker.get("/v1/grants"))["grants"]
        assert [(one["agent"], one["host"], one["source"]) for one in found] == [
            ("home", "a.example", "database"),
            ("home", "a.example", "file"),
            ("home", "f.example", "file"),
            ("work", "*.co.uk", "database"),
        ]
        assert len((await asker.get("/v1/grants", agent="work"))["grants"]) == 1
        removed = await asker.post("/v1/grants/remove", agent="home", host="a.example")
        assert "server's file" in removed["warnings"][0]
        assert (
            "server's file"
            in (await asker.post("/v1/grants/remove", 400, agent="home", host="f.example"))["error"]
        )
        assert (await asker.post("/v1/grants/remove", agent="work", host="*.co.uk"))[
            "warnings"
        ] == []
        names = [(one["id"], one["hosts"]) for one in (await asker.get("/v1/agents"))["agents"]]
        assert names == [("home", 2), ("work", 0)]


async def test_an_agent_that_only_its_session_or_the_file_knows(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        assert (await asker.get("/v1/agents/show", 404, agent="home"))["code"] == "not_found"
        asker.server.live.sessions = [HOME]
        asker.server.authorization.grants.replace(FILE, [("work", "w.example")])
        shown = await asker.get("/v1/agents/show", agent="home")
        assert (shown["agent"]["state"], shown["agent"]["created_at"]) == ("connected", None)
        assert shown["certificates"] == shown["tokens"] == shown["revocations"] == []
        shown = await asker.get("/v1/agents/show", agent="work")
        assert (shown["agent"]["state"], shown["agent"]["hosts"]) == ("away", 1)
        assert [one["id"] for one in (await asker.get("/v1/agents"))["agents"]] == ["home", "work"]


async def test_one_certificate(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        asker.server.live.sessions = [HOME]
        done = await asker.post("/v1/agents/revoke", agent="home", serial="0ABC")
        assert (done["serial"], done["sessions"]) == ("abc", 1)
        assert (await asker.get("/v1/agents/show", agent="home"))["revocations"][0][
            "serial"
        ] == "abc"
        await asker.post("/v1/agents/restore", agent="home", serial="abc")
        assert (await asker.post("/v1/agents/restore", 404, agent="home", serial="abc"))[
            "code"
        ] == "not_found"


async def test_the_audit(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        for number in range(5):
            await asker.post("/v1/grants/add", agent="home", host=f"h{number}.example")
        records = (await asker.get("/v1/audit", limit=2))["records"]
        assert [one["number"] for one in records] == [4, 5]
        assert records[0]["details"] == {"host": "h3.example"}
        assert [
            one["number"] for one in (await asker.get("/v1/audit", after=1, limit=2))["records"]
        ] == [2, 3]
        assert (await asker.get("/v1/audit", agent="other"))["records"] == []
        assert len((await asker.get("/v1/audit", action="grant.added"))["records"]) == 5
        page = await asker.client.get("/v1/audit/export", params={"after": 3})
        lines = [json.loads(line) for line in page.text.splitlines()]
        assert [one["number"] for one in lines] == [4, 5]
        assert page.headers["content-type"] == "application/x-ndjson"
        assert (await asker.client.get("/v1/audit/export", params={"after": 5})).content == b""
        chain = await asker.post("/v1/audit/verify")
        assert chain == {"records": 5, "head": lines[-1]["hash"], "broken": None, "reason": ""}


async def test_a_damaged_record_is_named_and_not_shown(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        await asker.post("/v1/grants/add", agent="home", host="a.example")
        with asker.server.database.transaction() as session:
            connection = session.connection()
            for (name,) in connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type='trigger'"
            ).fetchall():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            connection.exec_driver_sql("UPDATE audit SET details = '{\"'")
        assert "record 1 of the audit is damaged" in (await asker.get("/v1/audit", 400))["error"]
        assert (await asker.post("/v1/audit/verify"))["broken"] == 1


async def test_the_status(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        asker.server.live.sessions = [HOME, HOME]
        status = await asker.get("/v1/status")
        assert (status["agents"], status["sessions"], status["streams"]) == (1, 2, 8)
        assert status["database"] == str(tmp_path / "state.db")
        assert status["issuer_ends_at"] > status["started_at"]
        asker.server.agent_directory.reconfigure(None)
        assert (await asker.get("/v1/status"))["issuer_ends_at"] is None
        assert "ca init" in (await asker.post("/v1/tokens/create", 400, agent="home"))["error"]


@pytest.mark.parametrize(
    ("path", "said", "error"),
    [
        ("/v1/tokens/create", {}, "agent: is missing"),
        ("/v1/tokens/create", {"agent": 5}, "agent: expected text, found 5"),
        (
            "/v1/tokens/create",
            {"agent": "home", "host": []},
            'unknown key "host", did you mean "hosts"?',
        ),
        (
            "/v1/tokens/create",
            {"agent": "home", "expires": "soon"},
            'expires: invalid duration "soon"',
        ),
        ("/v1/tokens/create", {"agent": "home", "expires": "31d"}, "30 days"),
        ("/v1/tokens/create", {"agent": "../x"}, "cannot be used as a name"),
        ("/v1/tokens/create", {"agent": "home", "hosts": ["a.*"]}, "wildcard"),
        ("/v1/tokens/create", {"agent": "home", "hosts": ["a"] * 1001}, "hosts"),
        ("/v1/tokens/cancel", {"number": -1}, "number: must be at least 0"),
        ("/v1/tokens/cancel", {"number": 2**63}, "number: must be less"),
        ("/v1/grants/add", {"agent": "home", "host": "https://a"}, "is a URL"),
        (
            "/v1/agents/revoke",
            {"agent": "home", "reason": "x" * 501},
            "reason: is longer than 500 characters",
        ),
        ("/v1/agents/revoke", {"agent": "home", "serial": "xyz"}, "is not the serial"),
        (
            "/v1/agents/restore",
            {"agent": "home", "reissue": "perhaps"},
            "reissue: expected true or false",
        ),
    ],
)
async def test_what_cannot_be_asked_is_said(
    tmp_path: Path, path: str, said: dict[str, Any], error: str
) -> None:
    async with asking(tmp_path) as asker:
        asker.server.live.sessions = [HOME]
        assert error in (await asker.post(path, 400, **said))["error"]
        assert kept(asker.server) == []


@pytest.mark.parametrize(
    "said", [{"limit": 0}, {"limit": 1001}, {"limit": "many"}, {"after": -1}, {"what": 1}]
)
async def test_a_page_has_its_bounds(tmp_path: Path, said: dict[str, Any]) -> None:
    async with asking(tmp_path) as asker:
        for path in ("/v1/audit", "/v1/audit/export"):
            assert (await asker.get(path, 400, **said))["code"] == "bad_call"


async def test_the_socket_is_its_owners(tmp_path: Path) -> None:
    async with asking(tmp_path) as asker:
        assert stat.S_IMODE(asker.server.socket.stat().st_mode) == 0o600


async def test_who_is_somebody_else_is_refused_and_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    async with asking(tmp_path) as asker:
        assert asker.channel.allowed == {0, 4242}
        asker.channel.allowed = {4242}
        with capture_logs() as logs:
            for path in ("/v1/agents/revoke", "/v1/grants/add", "/v1/audit/verify"):
                refused = await asker.post(path, 403, agent="home")
                assert refused["code"] == "not_allowed"
            await asyncio.gather(*(asker.get("/v1/status", 403) for _ in range(10)))
        assert [one["event"] for one in logs] == ["command refused"]
        assert kept(asker.server) == [(f"uid {os.getuid()}", "command.refused")]
        with asker.server.database.transaction() as session:
            trigger = "CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'x'); END"
            session.connection().exec_driver_sql(trigger)
        asker.channel.refused.clear()
        assert (await asker.get("/v1/status", 403))["code"] == "not_allowed", (
            "also where it can't be recorded"
        )
        with asker.server.database.transaction() as session:
            session.connection().exec_driver_sql("DROP TRIGGER no")
        monkeypatch.setattr(admin, "REFUSED_INTERVAL", 0.0)
        asker.channel.refused.clear()
        await asker.get("/v1/status", 403)
        await asker.get("/v1/status", 403)
        assert len(kept(asker.server)) == 3


def test_every_question_and_answer_is_documented() -> None:
    from pydantic import BaseModel

    from zerotrust.model import access_admin, capture_admin, traffic_admin
    from zerotrust.model import admin as models

    page = (Path(__file__).parents[4] / "docs" / "reference" / "admin.md").read_text()
    kinds = [
        kind
        for module in (models, access_admin, capture_admin, traffic_admin)
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, BaseModel)
        and kind.__module__ == module.__name__
    ]
    keys = {key for kind in kinds for key in kind.model_fields}
    assert {key for key in keys if f"`{key}`" not in page} == set()
    nothing = cast("Any", None)
    commands = AdminCommands(
        nothing,
        nothing,
        nothing,
        nothing,
        ServiceAdmin(nothing, nothing, nothing),
        connections=ConnectionAdmin(list, nothing),
        captures=CaptureAdmin(nothing, nothing),
        traffic=nothing,
    )
    channel = AdminChannel(commands, nothing, nothing)
    assert {
        f"{method} {path}"
        for method, path in channel.endpoints()
        if f"`{method} {path}`" not in page
    } == set()
