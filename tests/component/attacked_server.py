"""A server under attack: a good agent whose requests must be answered, and attackers' tools."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.support.admin_socket import admin_client
from tests.support.backends import Origin, WsEcho
from tests.support.bad_certificates import BadCertificateIssuer, Credentials
from tests.support.raw_agent import RawAgent, client_context, session
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.pki.identity import AGENT_URN

APP, TALK = "app.example", "ws.example"
MINE, WILD = "m.example", "*.mallory.example"
STRANGER = "127.0.0.2"
"""Address of the attacker: handshake limits are per network, so it is not the good agent's."""


@dataclass
class Traffic:
    """Results of the good agent's clients."""

    seconds: list[float] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    messages: int = 0
    """Number of WebSocket messages echoed meanwhile."""

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[len(self.seconds) * 99 // 100]

    def __str__(self) -> str:
        return (
            f"{len(self.seconds)} good requests, p99 {self.p99 * 1000:.1f} ms, most"
            f" {max(self.seconds) * 1000:.1f} ms"
        )


class AttackedServer:
    """A server with the agent "good" for APP and the attacker "mallory" for MINE and WILD."""

    def __init__(self, folder: Path, origin: Origin, echo: WsEcho) -> None:
        self.authority = Authority(folder / "authority")
        issuer = {
            f"{key}_file": str(self.authority.folder / f"issuer.{file}")
            for key, file in (("cert", "crt"), ("key", "key"))
        }
        self.stack = Stack(
            folder / "stack",
            self.authority,
            agents={"good": [service(APP, origin.port), service(TALK, echo.port)]},
            with_caddy=False,
            sections={
                "server": {"resume_timeout": "1s"},  # agents that vanish are not waited for
                "api": {"hold_timeout": 0},
                "unsafe_agents_may_claim_any_host": False,
                "authority": issuer,
                "grants": {"good": [APP, TALK], "mallory": [MINE, WILD]},
            },
        )
        self.forger = BadCertificateIssuer(
            self.authority.folder, folder / "forged", root=self.authority.root
        )
        self.mallory = self.credentials("mallory")
        self.nobody = client_context(str(self.authority.root))

    def credentials(self, agent: str) -> Credentials:
        chain, key = self.authority.agent(agent)
        return Credentials(chain=chain, key=key, root=self.authority.root)

    @property
    def server(self) -> Any:
        return self.stack.server

    @property
    def port(self) -> int:
        return self.stack.tunnel_port

    async def open(self, credentials: Credentials | None = None) -> RawAgent:
        return await RawAgent.open(self.port, (credentials or self.mallory).client())

    def session(
        self, credentials: Credentials | None = None
    ) -> contextlib.AbstractAsyncContextManager[RawAgent]:
        return session(self.port, (credentials or self.mallory).client())

    async def command(self, path: str, **said: object) -> dict[str, Any]:
        """Ask over the admin socket, without the start-up time of a process."""
        async with admin_client(self.stack.folder / "state" / "admin.sock") as client:
            response = await (client.post(path, json=said) if said else client.get(path))
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def status(self, host: str) -> int:
        return (await self.stack.api.get(host, "/bytes/1")).status

    def refusals(self, since: int) -> list[str]:
        """Return the log lines since then that report a refusal."""
        return re.findall(r".*agent refused.*", self.server.text(since))

    @contextlib.asynccontextmanager
    async def traffic(self) -> AsyncIterator[Traffic]:
        """Send requests, one after another, and WebSocket messages during the block."""
        found, over = Traffic(), asyncio.Event()

        async def talk() -> None:
            async with self.stack.api.websocket(TALK) as bystander:
                while not over.is_set():
                    await bystander.send(text := str(found.messages))
                    assert await bystander.recv() == text
                    found.messages += 1
                    await asyncio.sleep(0.01)

        async def ask() -> None:
            async with await self.stack.api.open(APP) as client:
                while not over.is_set():
                    begun_at = time.perf_counter()
                    found.statuses.add((await client.get("/bytes/100")).status)
                    found.seconds.append(time.perf_counter() - begun_at)
                    await asyncio.sleep(0.002)

        going = [asyncio.create_task(ask()), asyncio.create_task(talk())]
        try:
            yield found
        finally:
            over.set()
            await asyncio.gather(*going)
        assert found.statuses == {200}
        assert found.messages > 0

    async def settled(self) -> None:
        """Check that only the good agent is connected, completely, and that it is served."""
        assert await self.status(APP) == 200

        async def alone() -> bool:
            agents = (await self.command("/v1/agents"))["agents"]
            return [(one["id"], len(one["sessions"])) for one in agents if one["sessions"]] == [
                ("good", 2)
            ]

        await eventually(alone, "only the good agent is connected", interval=0.1)
        assert "Traceback" not in self.server.text()


@contextlib.asynccontextmanager
async def besieged(folder: Path) -> AsyncIterator[AttackedServer]:
    """Run an attacked server."""
    async with Origin(folder) as origin, WsEcho(folder) as echo:
        attacked = AttackedServer(folder, origin, echo)
        async with attacked.stack:
            await attacked.server.wait_line("server ready")
            yield attacked


def csr(key: Any, *, ca: bool = False, name: str = "good") -> str:
    """Return a signing request that asks for more than an agent may have."""
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(AGENT_URN + name)]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
