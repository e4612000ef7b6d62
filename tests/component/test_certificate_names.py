"""Tests of the permission endpoint with agents that have wildcard grants."""

import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.backends import Origin
from tests.support.client import Client
from tests.support.entrypoint import Entrypoint
from tests.support.metrics import read
from tests.support.ports import free_port
from tests.support.raw_agent import RawAgent, client_context, session
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [pytest.mark.component, pytest.mark.anyio, pytest.mark.timeout(60)]

APP = "app.example.com"
MADE_UP = [f"x{number}.shop.example.com" for number in range(60)]
OTHERS = [f"y{number}.shop.example.com" for number in range(60)]
DOMAIN = 40
"""`limits.certificates_per_domain`, where the file says nothing."""


class Scenario:
    """The stack, and the attacker's credentials."""

    def __init__(self, stack: Stack, metrics_port: int) -> None:
        self.stack = stack
        self.metrics_port = metrics_port
        certificate, key = stack.authority.agent("mallory")
        self.tls = client_context(str(stack.authority.root))
        self.tls.load_cert_chain(certificate, key)

    async def ask(self, *names: str) -> list[int]:
        """As Caddy asks, one after the other."""
        async with await Entrypoint(self.stack.permission_port).open("localhost") as client:
            return [await status(client, name) for name in names]

    def change_limits(self, **limits: int) -> None:
        """Other limits in the server's file, which is read again."""
        path = self.stack.folder / "server.yaml"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"limits": limits}))
        self.stack.server.send_signal(signal.SIGHUP)


async def status(client: Client, name: str) -> int:
    return (await client.get(f"/.0trust/tls-permission?domain={name}")).status


@pytest.fixture
async def scenario(tmp_path: Path, authority: Authority) -> AsyncIterator[Scenario]:
    metrics_port = free_port()
    sections = {
        "unsafe_agents_may_claim_any_host": False,
        "grants": {"good": [APP, "*.shop.example.com"], "mallory": ["*.shop.example.com"]},
        "metrics": {"listen_addr": f"127.0.0.1:{metrics_port}"},
    }
    async with Origin(tmp_path) as origin:
        services = [service(APP, origin.port), service("honest.shop.example.com", origin.port)]
        async with Stack(
            tmp_path / "stack", authority, agents={"good": services}, sections=sections
        ) as stack:
            yield Scenario(stack, metrics_port)


async def registered(agent: RawAgent, *names: str) -> None:
    assert (await agent.register("web", *names)).accepted == list(names)


async def test_a_wildcard_gets_only_so_many_certificates(scenario: Scenario) -> None:
    since = scenario.stack.server.position()
    async with session(scenario.stack.tunnel_port, scenario.tls) as agent:
        await registered(agent, *MADE_UP)
        assert await scenario.ask(*MADE_UP) == [200] * DOMAIN + [403] * 20
        assert await scenario.ask(*MADE_UP) == [200] * DOMAIN + [403] * 20, (
            "what was permitted stays so"
        )
        assert await scenario.ask(APP, "honest.shop.example.com") == [200, 200], (
            "the other agent has its own"
        )
        (line,) = re.findall(".*no certificate: .*", scenario.stack.server.text(since))
        assert "agent=mallory" in line
        assert "limit=certificates_per_domain" in line
        found = await read(scenario.metrics_port)
        assert found["zerotrust_certificate_names_total", "mallory"] == DOMAIN
        assert found["zerotrust_certificate_names_total", "good"] == 1
        assert found["zerotrust_certificate_names_refused_total", "mallory"] == 40
        assert found["zerotrust_limit", "certificates_per_domain"] == DOMAIN
        scenario.change_limits(certificates_per_domain=100, certificates_per_agent=50)

        async def has_room() -> bool:
            return await scenario.ask(MADE_UP[-1]) == [200]

        await eventually(has_room, "the other limits hold")
        assert await scenario.ask(*MADE_UP) == [200] * 49 + [403] * 10 + [200], (
            "50 in an hour, whatever the domain"
        )


async def test_names_with_a_certificate_are_permitted_after_a_restart(scenario: Scenario) -> None:
    """All at once, and more than a new agent could have: Caddy would drop what it is refused."""
    await scenario.stack.server.stop()
    for name in MADE_UP:
        folder = (
            scenario.stack.folder / "caddy" / "storage" / "certificates" / "acme-directory" / name
        )
        folder.mkdir(parents=True)
        (folder / f"{name}.crt").touch()
    scenario.stack.server.start()
    await scenario.stack.wait_server()
    async with session(scenario.stack.tunnel_port, scenario.tls) as agent:
        await registered(agent, *MADE_UP, *OTHERS)
        assert await scenario.ask(*MADE_UP) == [200] * 60
        assert await scenario.ask(*OTHERS) == [200] * DOMAIN + [403] * 20
