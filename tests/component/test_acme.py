"""Tests of two servers that get public certificates by ACME, with DNS that names both."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.admin_socket import admin_client
from tests.support.backends import Origin
from tests.support.databases import Cluster
from tests.support.entrypoint import Entrypoint
from tests.support.pebble import AlternatingDns, Pebble
from tests.support.ports import free_port
from tests.support.stack import Authority, Stack, service
from zerotrust.doctor.member_challenges import MemberAnswer, ask_members
from zerotrust.model.doctor import DoctorFacts

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("servers"),
    pytest.mark.slow,
]

APP = "app.example.com"
ADDRESSES = ("127.0.0.1", "127.0.0.2")


@dataclass
class Edge:
    """Two servers, each with its Caddy at an address of its own, and the authority."""

    stacks: list[Stack]
    pebble: Pebble
    root: Path
    http_port: int

    async def certificate(self, number: int) -> x509.Certificate:
        """Open a connection to a Caddy, which orders a certificate; return the one it has."""
        stack = self.stacks[number]
        entrypoint = Entrypoint(stack.https_port, root=self.root, address=ADDRESSES[number])
        async with await entrypoint.open(APP, patience=60) as client:
            assert len((await client.get("/bytes/3")).body) == 3
            found = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(found)


def set_up(stack: Stack, number: int, *, http_port: int, ca_url: str) -> None:
    """Give a member an address, and its Caddy the authority."""
    path, address = stack.folder / "server.yaml", ADDRESSES[number]
    config = json.loads(path.read_text())
    config["server"]["member_addr"] = f"{address}:{stack.tunnel_port}"
    config["api"]["listen_addr"] = f"{address}:{stack.api.port}"
    config["caddy"] |= {
        "bind": [address],
        "http_port": http_port,
        "acme": {"ca_url": ca_url, "email": "admin@example.com"},
    }
    path.write_text(json.dumps(config))
    stack.api.address = address
    (agent,) = stack.agents.values()
    agent.set_up(server={**agent.config["server"], "follow_members": False})


@pytest.fixture(scope="module")
async def edge(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Edge]:
    folder, http_port = tmp_path_factory.mktemp("acme"), free_port()
    certificate, key = authority.server()
    async with AsyncExitStack() as opened:
        dns = await opened.enter_async_context(AlternatingDns(ADDRESSES))
        pebble = await opened.enter_async_context(
            Pebble(folder, certificate=certificate, key=key, http_port=http_port, dns_port=dns.port)
        )
        root = folder / "pebble-root.pem"
        root.write_text(await asyncio.to_thread(pebble.root, authority.root))
        cluster = Cluster()
        opened.callback(cluster.close)
        origin, url = await opened.enter_async_context(Origin(folder)), cluster.migrated()
        stacks = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(authority.root))  # by which Caddy trusts Pebble
            for number in range(2):
                own = folder / f"server-{number + 1}"
                stack = Stack(
                    own,
                    authority,
                    agents={f"agent-{number + 1}": [service(APP, origin.port)]},
                    sections={"state": {"dir": str(own / "state"), "url": url}},
                )
                set_up(stack, number, http_port=http_port, ca_url=pebble.url)
                stacks.append(stack)
        for stack in stacks:
            await opened.enter_async_context(stack)
        for stack in stacks:
            await stack.server.wait_line("server joined")
        yield Edge(stacks, pebble, root, http_port)


async def test_each_server_gets_a_certificate_in_its_turn_though_dns_names_both(edge: Edge) -> None:
    found = await asyncio.gather(*(edge.certificate(number) for number in range(2)))
    steps = re.findall("Added order|Issued certificate", edge.pebble.text())
    assert steps == ["Added order", "Issued certificate"] * 2
    assert found[0].serial_number != found[1].serial_number
    for one in found:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [APP]


async def test_the_doctor_asks_the_other_member_through_its_caddy(edge: Edge) -> None:
    socket = edge.stacks[0].folder / "state" / "admin.sock"
    async with admin_client(socket) as client:
        facts = DoctorFacts.model_validate_json((await client.get("/v1/doctor")).content)
    assert facts.members == [f"{ADDRESSES[1]}:{edge.stacks[1].tunnel_port}"]
    answer = MemberAnswer(f"{ADDRESSES[1]}:{edge.http_port}")
    assert await ask_members(facts.members, edge.http_port) == [answer]
