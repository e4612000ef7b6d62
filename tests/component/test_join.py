"""Tests of joining with commands and real processes, from a join token to a served agent."""

import asyncio
import contextlib
import signal
import ssl
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.backends import Origin
from tests.support.commands import CommandResult, Commands, run_product
from tests.support.processes import PRODUCT, Process
from tests.support.stack import Authority, Stack
from tests.support.waiting import eventually
from zerotrust.pki import join_token

pytestmark = [pytest.mark.anyio, pytest.mark.component, pytest.mark.timeout(90)]

HOST = "app.example"


class Machine:
    """A folder that stands for another machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def join(self, line: str, *options: str) -> CommandResult:
        """Join with the token on standard input, where other users cannot see it."""
        words = ["agent", "join", "-", "--dir", str(self.folder), *options]
        done = await run_product(*words, stdin=line)
        assert "Traceback" not in done.err
        assert done.err.count("\n") <= 1
        return done

    def agent(self) -> Process:
        command: list[str | Path] = [
            PRODUCT,
            "agent",
            "run",
            "--config",
            self.folder / "agent.yaml",
        ]
        return Process("agent", command, log=self.folder.with_suffix(".log"))

    def publish(self, host: str, port: int) -> None:
        """Add a service to agent.yaml, as its comments say."""
        path = self.folder / "agent.yaml"
        entry = (
            f'services:\n  - hostname: "{host}"\n    backend: "127.0.0.1:{port}"\n    protocol:'
            ' "http"\n'
        )
        text = path.read_text()
        assert "\nservices: []\n" in text
        path.write_text(text.replace("services: []\n", entry))


class JoinServer:
    """A server whose authority issues join tokens, and commands to it."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        issuer = {
            "cert_file": str(authority.folder / "issuer.crt"),
            "key_file": str(authority.folder / "issuer.key"),
        }
        self.stack = Stack(
            folder,
            authority,
            agents={},
            with_caddy=False,
            sections={"unsafe_agents_may_claim_any_host": False, "authority": issuer},
        )
        self.command = Commands(folder / "state" / "admin.sock")

    async def invite(self, agent: str, *hosts: str, expires: str = "10m") -> str:
        """A join token."""
        asked = [word for host in hosts for word in ("--host", host)]
        where = ["--server", f"127.0.0.1:{self.stack.tunnel_port}"]
        done = await self.command(
            "tokens", "create", "--agent", agent, *asked, "--expires", expires, *where
        )
        assert done.code == 0, done
        return done.out

    async def records(self) -> list[tuple[str, str]]:
        found = (await self.command("audit", "list", "--json")).json()["records"]
        return [(one["action"], one["agent"]) for one in found]


@contextlib.asynccontextmanager
async def inviting(folder: Path, authority: Authority) -> AsyncIterator[JoinServer]:
    server = JoinServer(folder, authority)
    since = server.stack.server.position()
    async with server.stack.server:
        await server.stack.wait_server()
        await server.stack.server.wait_line("server ready", since=since)
        yield server


async def test_one_line_makes_an_agent_that_serves(tmp_path: Path, authority: Authority) -> None:
    machine = Machine(tmp_path / "machine")
    async with Origin(tmp_path) as origin, inviting(tmp_path / "s", authority) as server:
        line = await server.invite("new", HOST, "*.lab.example")
        said = await machine.join(line)
        assert (said.code, said.err) == (0, "")
        assert (
            f"Next: add services to {machine.folder}/agent.yaml (for *.lab.example, {HOST})"
            in said.out
        )
        assert stat.S_IMODE((machine.folder / "agent.key").stat().st_mode) == 0o600
        async with machine.agent() as agent:
            await agent.wait_line("connected|published|ready")
            machine.publish(HOST, origin.port)
            await server.stack.wait_published(HOST, process=agent)
            assert (await server.stack.api.get(HOST, "/")).status == 200
        secret = join_token.parse(line).secret
        assert secret not in server.stack.server.text() + said.out + agent.text()
        assert ("agent.joined", "new") in await server.records()


async def test_of_many_that_join_with_one_line_one_does(
    tmp_path: Path, authority: Authority
) -> None:
    machines = [Machine(tmp_path / f"m{number}") for number in range(6)]
    async with inviting(tmp_path / "s", authority) as server:
        line = await server.invite("contested", HOST)
        all_said = await asyncio.gather(*(machine.join(line) for machine in machines))
        assert sorted(said.code for said in all_said) == [0, 1, 1, 1, 1, 1]
        for machine, said in zip(machines, all_said, strict=True):
            left = sorted(path.name for path in machine.folder.iterdir())
            if said.code:
                assert "refuses: this join token was already used" in said.err
                assert not left
            else:
                assert left == ["agent.crt", "agent.key", "agent.yaml", "ca.crt"]
        found = await server.records()
        assert found.count(("agent.joined", "contested")) == 1
        assert found.count(("join.refused", "contested")) == 5


async def test_what_does_not_let_in(tmp_path: Path, authority: Authority) -> None:
    machine = Machine(tmp_path / "machine")
    async with inviting(tmp_path / "s", authority) as server:
        line = join_token.parse(await server.invite("x", HOST))
        expired = await server.invite("y", HOST, expires="1s")
        cancelled = await server.invite("z", HOST)
        (number,) = [
            one["number"]
            for one in (await server.command("tokens", "list", "--json")).json()["tokens"]
            if one["agent"] == "z"
        ]
        assert (await server.command("tokens", "cancel", number)).code == 0
        for wrong, text in (
            (str(replace(line, secret=line.secret[:-4] + "AAAA")), "refuses: unknown join token"),
            (cancelled, "refuses: this join token was cancelled"),
            (str(replace(line, fingerprint="0" * 64)), "has another CA"),
            (str(line)[:-9], "the join token is incomplete"),
        ):
            said = await machine.join(wrong)
            assert (said.code, said.out) == (1, "")
            assert text in said.err
            assert line.secret not in said.err

        async def is_over() -> bool:
            found = (await server.command("tokens", "list", "--json")).json()["tokens"]
            return [one["state"] for one in found if one["agent"] == "y"] == ["expired"]

        await eventually(is_over, "a token of a second has expired")
        assert "this join token has expired" in (await machine.join(expired)).err
        assert not list(machine.folder.iterdir())
        assert (await machine.join(str(line))).code == 0


async def test_a_machine_joins_anew(tmp_path: Path, authority: Authority) -> None:
    machine = Machine(tmp_path / "machine")
    async with Origin(tmp_path) as origin, inviting(tmp_path / "s", authority) as server:
        assert (await machine.join(await server.invite("home", HOST))).code == 0
        machine.publish(HOST, origin.port)
        again = await server.invite("home", HOST)
        said = await machine.join(again)
        assert (
            said.code == 1
            and "exists already and is not overwritten; use --dir, or --force" in said.err
        )
        before = (machine.folder / "agent.key").read_bytes()
        said = await machine.join(again, "--force")
        assert said.code == 0 and "agent.yaml: configuration, unchanged" in said.out
        assert (machine.folder / "agent.key").read_bytes() != before
        async with machine.agent() as agent:
            await server.stack.wait_published(HOST, process=agent)


async def test_rotation_disturbs_nobody(tmp_path: Path) -> None:
    """Agents of the old and the new issuer are connected after the server took the new one."""
    own = Authority(tmp_path / "authority")
    old, new = Machine(tmp_path / "old"), Machine(tmp_path / "new")
    async with Origin(tmp_path) as origin, inviting(tmp_path / "s", own) as server:
        assert (await old.join(await server.invite("old", "old.example"))).code == 0
        old.publish("old.example", origin.port)
        async with old.agent() as agent:
            await server.stack.wait_published("old.example", process=agent)
            assert (await run_product("ca", "rotate", "--dir", own.folder)).code == 0
            since = server.stack.server.position()
            server.stack.server.send_signal(signal.SIGHUP)
            await server.stack.server.wait_line("reload|appl", since=since)
            assert (await new.join(await server.invite("new", "new.example"))).code == 0
            issuers = {
                machine: (machine.folder / "agent.crt").read_text().split("-----BEGIN")[2]
                for machine in (old, new)
            }
            assert issuers[old] != issuers[new]
            new.publish("new.example", origin.port)
            async with new.agent() as other:
                await server.stack.wait_published("new.example", process=other)
                assert (await server.stack.api.get("old.example", "/")).status == 200
            agent.kill()
            agent.start()
            await server.stack.wait_published("old.example", process=agent)


async def test_strangers_do_not_keep_others_from_joining(
    tmp_path: Path, authority: Authority
) -> None:
    """Silent connections, partial requests, wrong tokens: the agent goes on, memory is bounded."""
    machine = Machine(tmp_path / "machine")
    async with inviting(tmp_path / "s", authority) as server:
        context = ssl.create_default_context(cafile=str(authority.root))
        context.set_alpn_protocols(["http/1.1"])
        process, port = server.stack.server, server.stack.tunnel_port

        async def connect(count: int, data: bytes) -> None:
            for _ in range(count):
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                    writer.write(data)
                    writer.close()
                    await writer.wait_closed()

        half = b"POST /.well-known/0trust/join HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n{"
        await connect(100, half)
        before, files = process.rss_bytes(), process.open_files()
        await asyncio.gather(*(connect(200, data) for data in (b"", half, b"\x00" * 200)))
        await eventually(lambda: process.open_files() <= files + 4, "their connections are gone")
        assert process.rss_bytes() - before < 8 * 1024 * 1024
        line = await server.invite("patient", HOST)

        async def joined() -> bool:
            return (await machine.join(line)).code == 0

        await eventually(joined, "an agent joins all the same", 30)
