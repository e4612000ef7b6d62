"""Tests of commands to a running server: grants and revocations are exact, prompt and durable."""

import asyncio
import contextlib
import os
import re
import resource
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.admin_socket import admin_client
from tests.support.authorities import ForeignCertificate
from tests.support.backends import Origin, WsEcho
from tests.support.commands import NOBODY, Commands, run_product
from tests.support.processes import PRODUCT, Process
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.pki import join_token

pytestmark = [pytest.mark.anyio, pytest.mark.component, pytest.mark.timeout(180)]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


class Scenario:
    """A server that enforces grants, and commands to it."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        url: str | None = None,
        **agents: list[dict[str, object]],
    ) -> None:
        issuer = {
            "cert_file": str(authority.folder / "issuer.crt"),
            "key_file": str(authority.folder / "issuer.key"),
        }
        self.stack = Stack(
            folder,
            authority,
            agents=agents,
            with_caddy=False,
            sections={
                "unsafe_agents_may_claim_any_host": False,
                "authority": issuer,
                "state": {"dir": str(folder / "state"), **({"url": url} if url else {})},
            },
        )
        self.socket = folder / "state" / "admin.sock"
        self.command = Commands(self.socket)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Scenario"]:
        since = self.stack.server.position()
        async with self.stack.server:
            await self.listening(since)
            yield self
        said = self.stack.server.text()
        assert "Traceback" not in said, said

    async def listening(self, since: int) -> None:
        """Wait until the server is ready; its first line is at the position `since` of the log."""
        await self.stack.wait_server()
        await self.stack.server.wait_line("server ready", since=since)

    async def status(self, host: str) -> int:
        return (await self.stack.api.get(host, "/")).status


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter."""
    folder = Path(tempfile.mkdtemp(prefix="0trust-admin-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def test_a_grant_holds_at_once_and_a_revocation_ends_everything(
    tmp_path: Path, authority: Authority, url: str
) -> None:
    async with Origin(tmp_path) as origin, WsEcho(tmp_path) as echo:
        services = [service("a.example", origin.port), service("ws.example", echo.port)]
        scenario = Scenario(tmp_path / "s", authority, url, home=services)
        async with scenario.running():
            agent = scenario.stack.agents["home"].process
            async with agent:
                await scenario.stack.server.wait_line("host name refused.*a.example")
                assert await scenario.status("a.example") == 404
                assert (
                    await scenario.command("grants", "add", "home", "a.example", "ws.example")
                ).code == 0
                await eventually(
                    lambda: _is(scenario.status("a.example"), 200), "the service that was granted"
                )
                async with scenario.stack.api.websocket("ws.example") as first:
                    async with scenario.stack.api.websocket("ws.example") as second:
                        for each in (first, second):
                            await each.send("here")
                            assert await each.recv() == "here"
                        (shown,) = (await scenario.command("agents", "list", "--json")).json()[
                            "agents"
                        ]
                        assert (shown["id"], shown["state"], shown["hosts"]) == (
                            "home",
                            "connected",
                            2,
                        )
                        assert sum(one["streams"] for one in shown["sessions"]) == 2
                        done = await scenario.command(
                            "agents", "revoke", "home", "--reason", "test"
                        )
                        assert re.fullmatch(
                            r"home is revoked; [12] sessions? and 2 streams were cut\n", done.out
                        ), done.out
                        for each in (first, second):
                            with pytest.raises(ConnectionClosed):
                                await asyncio.wait_for(each.recv(), 5)
                assert await scenario.status("a.example") == 503
                await scenario.stack.server.wait_line(
                    "agent refused.*was revoked|was revoked.*agent refused"
                )
                assert (await scenario.command("agents", "show", "home", "--json")).json()["agent"][
                    "state"
                ] == "revoked"
                assert (await scenario.command("agents", "restore", "home")).code == 0
                await eventually(
                    lambda: _is(scenario.status("a.example"), 200), "the agent is back", 60
                )
                assert (await scenario.command("grants", "remove", "home", "a.example")).code == 0
                assert await scenario.status("a.example") == 404
        actions = [one["action"] for one in await _records(scenario)]
        # The agent has two connections: each is refused at its own time, and as often as it asks.
        refused = {"hosts.refused", "agent.refused"}
        decided = ["grant.added", "grant.added", "agent.revoked", "agent.restored", "grant.removed"]
        assert [one for one in actions if one not in refused] == [
            "server.started",
            *decided,
            "server.started",
        ]
        assert refused <= set(actions)
        assert (
            "agent.refused"
            in actions[actions.index("agent.revoked") : actions.index("agent.restored")]
        )


async def _is(asked: Awaitable[int], wanted: int) -> bool:
    return await asked == wanted


async def _records(scenario: Scenario) -> list[dict[str, object]]:
    """Start the server again and return its audit records."""
    async with scenario.running():
        assert (await scenario.command("audit", "verify")).code == 0
        records: list[dict[str, object]] = (
            await scenario.command("audit", "list", "--json")
        ).json()["records"]
        return records


async def test_a_host_name_that_two_agents_share_needs_two_grants(
    tmp_path: Path, authority: Authority
) -> None:
    async with Origin(tmp_path) as origin:
        shared = [service("a.example", origin.port)]
        scenario = Scenario(tmp_path / "s", authority, first=shared, second=shared)
        server, agents = scenario.stack.server, scenario.stack.agents
        async with scenario.running():
            assert (await scenario.command("grants", "add", "first", "a.example")).code == 0
            async with agents["first"].process, agents["second"].process:
                await eventually(
                    lambda: _is(scenario.status("a.example"), 200), "the one that may serves it"
                )
                await agents["second"].process.wait_line("not granted to second")
                assert (await scenario.command("grants", "add", "second", "a.example")).code == 0
                await server.wait_line(r"service registered.*second.*hosts=\['a.example'\]")
                await agents["first"].process.stop()
                await eventually(
                    lambda: _is(scenario.status("a.example"), 200), "the other one takes over"
                )
                assert (await scenario.command("grants", "remove", "second", "a.example")).code == 0
                await eventually(
                    lambda: _is(scenario.status("a.example"), 404), "and may no longer"
                )


async def test_an_authority_of_ones_own_names_agents_by_their_common_name(tmp_path: Path) -> None:
    """As `openssl` makes them: one key signs everything, and no certificate has a URI."""
    root = ForeignCertificate.root()
    root.store(tmp_path / "pki", "ca")
    root.issue("server", dns=("localhost",)).store(tmp_path / "pki", "server")
    root.issue("home").store(tmp_path / "pki", "home")
    root.issue("stranger").store(tmp_path / "pki", "stranger")
    sections = {"unsafe_agents_may_claim_any_host": False, "grants": {"home": ["a.example"]}}
    async with Origin(tmp_path) as origin:
        agents = {name: [service("a.example", origin.port)] for name in ("home", "stranger")}
        own = OwnAuthority(tmp_path / "pki")
        stack = Stack(tmp_path / "s", own, agents=agents, with_caddy=False, sections=sections)
        async with stack.server:
            await stack.wait_server()
            async with stack.agents["stranger"].process as stranger, stack.agents["home"].process:
                await stack.wait_published("a.example")
                await stranger.wait_line("not granted to stranger")
                assert (await stack.api.get("a.example", "/echo")).status == 200
                done = await Commands(tmp_path / "s" / "state" / "admin.sock")(
                    "agents", "revoke", "home"
                )
                assert re.search(r"; [12] sessions? and", done.out), done.out
                await stack.server.wait_line(
                    "agent refused.*was revoked|was revoked.*agent refused"
                )


class OwnAuthority(Authority):
    """An authority folder that already exists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


async def test_a_full_disk_refuses_and_loses_nothing_that_was_acknowledged(
    tmp_path: Path, authority: Authority
) -> None:
    """A limit on the size of files stands for it."""
    scenario = Scenario(tmp_path / "s", authority)
    acknowledged = []
    async with scenario.running():
        log = scenario.stack.server.log
        size = max(
            file.stat().st_size
            for file in (*scenario.socket.parent.iterdir(), log)
            if file.is_file()
        )
        _, hard = resource.prlimit(scenario.stack.server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(scenario.stack.server.pid, resource.RLIMIT_FSIZE, (size + 100_000, hard))
        async with admin_client(scenario.socket) as admin:
            for number in range(1000):
                asked = {"agent": "home", "host": f"h{number}.example"}
                answer = await admin.post("/v1/grants/add", json=asked)
                if answer.status_code != 200:
                    break
                acknowledged.append(asked["host"])
        assert "disk" in answer.json()["error"]
        resource.prlimit(scenario.stack.server.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert (await scenario.command("grants", "add", "home", "again.example")).code == 0
        scenario.stack.server.kill()
    async with scenario.running():
        found = {
            one["host"]
            for one in (await scenario.command("grants", "list", "--json")).json()["grants"]
        }
        assert found == {*acknowledged, "again.example"}
        assert (await scenario.command("audit", "verify")).code == 0


async def test_a_join_token_and_no_secret_in_the_log(tmp_path: Path, authority: Authority) -> None:
    scenario = Scenario(tmp_path / "s", authority)
    async with scenario.running():
        made = await scenario.command(
            "tokens", "create", "--agent", "home", "--host", "a.example", "--expires", "10m"
        )
        assert made.out.startswith("0trust-join-1.")
        (token,) = (await scenario.command("tokens", "list", "--json")).json()["tokens"]
        assert (token["state"], token["hosts"]) == ("open", ["a.example"])
        assert (await scenario.command("tokens", "cancel", 1)).code == 0
        assert (await scenario.command("tokens", "cancel", 1)).code == 1
        assert made.out.strip() not in scenario.stack.server.text()
        kept = b"".join(
            file.read_bytes() for file in (tmp_path / "s" / "state").iterdir() if file.is_file()
        )
        assert join_token.parse(made.out).secret.encode() not in kept
        assert stat.S_IMODE(scenario.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(scenario.socket.parent.stat().st_mode) == 0o700


async def test_a_machine_joins_and_serves_what_its_token_grants(
    tmp_path: Path, authority: Authority
) -> None:
    scenario = Scenario(tmp_path / "s", authority)
    async with Origin(tmp_path) as origin, scenario.running():
        where = f"localhost:{scenario.stack.tunnel_port}"
        made = await scenario.command(
            "tokens", "create", "--agent", "new", "--host", "n.example", "--server", where
        )
        line = tmp_path / "line"
        line.write_text(made.out)
        join: list[str | Path] = ["agent", "join", "--token-file", line, "--dir"]
        joined = await run_product(*join, tmp_path / "new")
        assert joined.code == 0, joined.err
        again = await run_product(*join, tmp_path / "other")
        assert (again.code, "already used" in again.err) == (1, True)
        file = tmp_path / "new" / "agent.yaml"
        services = (
            "services: [{hostname: n.example, protocol: http, backend:"
            f" '127.0.0.1:{origin.port}'}}]"
        )
        file.write_text(file.read_text().replace("services: []", services))
        async with Process(
            "new", [PRODUCT, "agent", "run", "--config", file], log=tmp_path / "new.log"
        ):
            await eventually(
                lambda: _is(scenario.status("n.example"), 200), "the service of the new agent"
            )
            shown = (await scenario.command("agents", "show", "new", "--json")).json()
            assert shown["agent"]["state"] == "connected"
            (certificate,) = shown["certificates"]
            assert shown["agent"]["sessions"][0]["serial"] == certificate["serial"]
            done = await scenario.command(
                "agents", "revoke", "new", "--serial", certificate["serial"]
            )
            assert re.search(r"; [12] sessions? and 0 streams were cut", done.out), done.out
            await eventually(lambda: _is(scenario.status("n.example"), 503), "it is gone")
        actions = [
            one["action"]
            for one in (await scenario.command("audit", "list", "--json")).json()["records"]
        ]
        # It may or may not have connected again by now.
        decided = [
            action for action in actions if action not in ("server.started", "agent.refused")
        ]
        assert decided == ["token.created", "agent.joined", "join.refused", "certificate.revoked"]


@as_root
async def test_another_user_commands_nothing(open_folder: Path, authority: Authority) -> None:
    scenario = Scenario(open_folder / "s", authority)
    async with scenario.running():
        closed = await scenario.command("grants", "add", "home", "a.example", uid=NOBODY)
        assert (closed.code, "use sudo" in closed.err) == (1, True)
        # Somebody has opened it: the system's word about who asks still counts.
        scenario.socket.parent.chmod(0o711)
        scenario.socket.chmod(0o666)
        for words in (
            ("grants", "add", "home", "a.example"),
            ("audit", "list"),
            ("tokens", "create", "--agent", "home"),
        ):
            refused = await scenario.command(*words, uid=NOBODY)
            assert (refused.code, refused.out) == (1, "")
            assert (
                refused.err
                == "error: only root and the user that the server runs as may use the admin API\n"
            )
        assert (await scenario.command("grants", "list", "--json")).json() == {"grants": []}
        _, record = (await scenario.command("audit", "list", "--json")).json()["records"]
        assert (record["actor"], record["action"]) == (f"uid {NOBODY}", "command.refused")
        assert scenario.stack.server.text().count("command refused") == 1


@as_root
async def test_the_servers_own_user_and_root_command_it(open_folder: Path) -> None:
    authority = Authority(open_folder / "authority")
    scenario = Scenario(open_folder / "s", authority)
    authority.server()
    for path in (open_folder, *open_folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    server = Process(
        "server", [*become, *scenario.stack.server.argv], log=open_folder / "server.log"
    )
    async with server:
        await server.wait_line("server ready")
        assert (await scenario.command("grants", "add", "home", "a.example", uid=NOBODY)).code == 0
        assert (await scenario.command("grants", "add", "home", "b.example")).code == 0
        actors = [
            one["actor"]
            for one in (await scenario.command("audit", "list", "--json")).json()["records"]
        ]
        assert actors == ["server", f"uid {NOBODY}", "uid 0"]


async def test_a_server_that_does_not_run(tmp_path: Path, authority: Authority) -> None:
    scenario = Scenario(tmp_path / "s", authority)
    before = await scenario.command("grants", "list")
    async with scenario.running():
        assert (await scenario.command("grants", "list")).out == "no grants\n"
        healthy = await scenario.command("server", "status")
        assert healthy.code == 0 and healthy.out.splitlines()[0].split() == ["SERVER", "HEALTHY"]
        scenario.stack.server.kill()
        killed = await scenario.command("grants", "list")
        unhealthy = await scenario.command("server", "status")
    for done in (before, killed, unhealthy):
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"error: no server runs at {scenario.socket}; start it with `")
        assert done.err.count("\n") == 1


async def test_a_server_that_is_stopped_while_it_is_asked(
    tmp_path: Path, authority: Authority
) -> None:
    scenario = Scenario(tmp_path / "s", authority)
    async with scenario.running():
        asked = [
            asyncio.ensure_future(scenario.command("grants", "add", "home", f"h{n}.example"))
            for n in range(4)
        ]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert await scenario.stack.server.stop() in (0, -15)
        done = await asyncio.gather(*asked)
    said = sorted(one.out for one in done if one.code == 0)
    assert all(one.code == 0 or one.err.count("\n") == 1 for one in done)
    async with scenario.running():
        found = (await scenario.command("grants", "list", "--json")).json()["grants"]
        assert {f"{one['host']} is granted to home\n" for one in found} >= set(said)


async def test_a_killed_server_has_lost_nothing_that_it_acknowledged(
    tmp_path: Path, authority: Authority, url: str
) -> None:
    scenario = Scenario(tmp_path / "s", authority, url)
    acknowledged: list[str] = []

    async def grant(worker: int) -> None:
        for number in range(1000):
            host = f"h{number}.w{worker}.example"
            done = await scenario.command("grants", "add", "home", host)
            if done.code != 0:
                return
            acknowledged.append(host)

    async with scenario.running():
        workers = [asyncio.ensure_future(grant(worker)) for worker in range(2)]
        await eventually(lambda: len(acknowledged) >= 4, "some grants", 30)
        scenario.stack.server.kill()
        await asyncio.gather(*workers)
    async with scenario.running():
        found = (await scenario.command("grants", "list", "--json")).json()["grants"]
        assert {one["host"] for one in found} >= set(acknowledged)
        lines = (await scenario.command("audit", "export")).out.splitlines()
        assert sum('"grant.added"' in line for line in lines) == len(found)
        assert (await scenario.command("audit", "verify")).code == 0


async def test_commands_explain_themselves() -> None:
    for words in (
        ["tokens", "create"],
        ["grants", "add"],
        ["agents", "revoke"],
        ["audit", "verify"],
    ):
        done = await run_product(*words, "--help")
        assert done.code == 0
        assert "--socket" in done.out
