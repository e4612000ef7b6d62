"""Tests of wildcards, several host names and redirects of a service, with the real Caddy."""

import contextlib
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.backends import Origin, WsEcho
from tests.support.client import Response
from tests.support.entrypoint import Entrypoint
from tests.support.stack import Authority, Service, Stack, service
from tests.support.waiting import eventually
from zerotrust.pki import ca_directory
from zerotrust.pki.issuer import ServerNames

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("host_names"),
]

APPS, EXACT = "*.apps.localhost", "exact.apps.localhost"
SOCKETS = "*.ws.localhost"
FIRST, SECOND = "first.localhost", "second.localhost"
ALIAS, PLAIN_ALIAS = "www.localhost", "plain-www.localhost"


def named(name: str) -> dict[str, Any]:
    """Return routes that name the service in each response."""
    edit = {"type": "headers", "config": {"response": {"set": {"X-Service": name}}}}
    return {"routes": [{"handle": [edit]}]}


def services(http: int, ws: int) -> dict[str, list[Service]]:
    several = service(FIRST, http, **named("several"))
    several["hostnames"] = [several.pop("hostname"), SECOND]
    return {
        "exact": [service(EXACT, http, **named("exact"))],
        "wild": [
            service("wild.localhost", http),
            service(APPS, http, **named("wild")),
            service(SOCKETS, ws),
            several,
            {"hostname": ALIAS, "redirect_to": FIRST},
            {"hostname": PLAIN_ALIAS, "redirect_to": FIRST, "listen_on": "http"},
        ],
        "rest": [service("rest.localhost", http), service("*", http, **named("rest"))],
    }


@pytest.fixture(scope="module")
async def backends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[int, int]]:
    folder = tmp_path_factory.mktemp("host-names-backends")
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        yield origin.port, ws.port


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, backends: tuple[int, int]
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("host-names")
    async with Stack(folder, authority, agents=services(*backends)) as stack:
        await all_registered(stack)
        yield stack


async def all_registered(stack: Stack) -> None:
    """Wait until each service is registered: the service `*` answers for all others before."""
    for agent in stack.agents.values():
        for one in agent.services:
            for host in one.get("hostnames", [one.get("hostname")]):
                await agent.process.wait_line(rf"service registered.*'{re.escape(host)}'")


async def asked(entrypoint: Entrypoint, host: str) -> tuple[str | None, str, str]:
    """Return the service that answers, and the Host and X-Forwarded-Host of its backend."""
    response = await entrypoint.get(host, "/echo")
    assert response.status == 200, response.body
    fields = {name.lower(): value for name, value in response.json()["fields"]}
    return response.get("x-service"), fields["host"], fields["x-forwarded-host"]


async def echoes(entrypoint: Entrypoint, host: str) -> bool:
    async with entrypoint.websocket(host) as socket:
        await socket.send("hello")
        return await socket.recv() == "hello"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (EXACT, "exact"),
        ("one.apps.localhost", "wild"),
        ("two.apps.localhost", "wild"),
        ("x.one.apps.localhost", "rest"),
        ("apps.localhost", "rest"),
        ("anything.localhost", "rest"),
        (FIRST, "several"),
        (SECOND, "several"),
    ],
)
async def test_the_most_specific_service_answers_over_https(
    stack: Stack, host: str, name: str
) -> None:
    assert await asked(stack.caddy, host) == (name, host, host)
    certificates = stack.folder / "caddy" / "storage" / "certificates"
    assert [path.stem for path in certificates.rglob(f"{host}.crt")] == [host]


@pytest.mark.parametrize("host", ["one.ws.localhost", "two.ws.localhost"])
async def test_websockets_below_a_wildcard(stack: Stack, host: str) -> None:
    assert await echoes(stack.caddy, host)


async def test_http_below_a_wildcard_is_sent_to_the_name_that_was_asked_for(stack: Stack) -> None:
    for host in ("one.apps.localhost", "anything.localhost"):
        response = await stack.plain.get(host, "/a?b=c")
        assert response.status == 301
        assert response.get("location") == stack.caddy.url(host, "/a?b=c")


@pytest.mark.parametrize("host", [APPS, "*", "*.localhost"])
async def test_no_client_asks_for_a_wildcard(stack: Stack, host: str) -> None:
    async with await stack.api.open("localhost") as client:
        client.host = host
        assert (await client.get("/echo")).status == 400


ALIASES = [
    ("GET", "/a%2Fb//?x=%20&&", b""),
    ("HEAD", "/", b""),
    ("POST", "/form", b"body"),
    ("DELETE", "/a?b", b""),
]


@pytest.mark.parametrize(("method", "target", "body"), ALIASES)
async def test_an_alias_is_redirected(stack: Stack, method: str, target: str, body: bytes) -> None:
    secure = await stack.caddy.request(ALIAS, method, target, (), body)
    assert (secure.status, secure.get("location")) == (308, f"https://{FIRST}{target}")
    plain = await stack.plain.request(PLAIN_ALIAS, method, target, (), body)
    assert (plain.status, plain.get("location")) == (308, f"http://{FIRST}{target}")
    usual = await stack.plain.request(ALIAS, method, target, (), body)
    assert usual.get("location") == stack.caddy.url(ALIAS, target), "first to https"


async def test_an_upgrade_of_an_alias_is_redirected(stack: Stack) -> None:
    async with await stack.caddy.open(ALIAS) as client:
        response = await client.upgrade("/chat?x=1")
    assert (response.status, response.get("location")) == (308, f"https://{FIRST}/chat?x=1")


async def test_a_wildcard_gets_what_a_removed_service_had_but_not_what_is_away(
    tmp_path: Path, authority: Authority, backends: tuple[int, int]
) -> None:
    sections = {"api": {"hold_timeout": "0s"}, "server": {"resume_timeout": "0s"}}
    async with Stack(
        tmp_path, authority, agents=services(*backends), sections=sections, with_caddy=False
    ) as stack:
        await all_registered(stack)
        exact, other = stack.agents["exact"], service("other.localhost", backends[0])
        assert (await asked(stack.api, EXACT))[0] == "exact"
        await exact.process.stop()

        async def is_away() -> bool:
            return (await stack.api.get(EXACT, "/")).error_code == "no_agent"

        await eventually(is_away, "its agent is away, and the wildcard gets nothing")
        exact.process.start()
        await stack.wait_agent(exact)
        assert (await asked(stack.api, EXACT))[0] == "exact"
        async with stack.api.websocket("one.ws.localhost") as socket:
            exact.set_services([other])

            async def is_wild() -> bool:
                response = await stack.api.get(EXACT, "/echo")
                return response.get("x-service") == "wild"

            await eventually(is_wild, "the service is removed")
            exact.set_services([other, service(EXACT, backends[0], **named("exact"))])

            async def is_exact() -> bool:
                response = await stack.api.get(EXACT, "/echo")
                return response.get("x-service") == "exact"

            await eventually(is_exact, "the service is back")
            await socket.send("still there")
            assert await socket.recv() == "still there"


async def test_host_names_come_and_go_without_a_restart(
    tmp_path: Path, authority: Authority, backends: tuple[int, int]
) -> None:
    def sockets(*hosts: str) -> Service:
        return {"id": "ws", "hostnames": hosts, "backend": f"127.0.0.1:{backends[1]}"}

    async with Stack(
        tmp_path,
        authority,
        agents={"home": [service("a.localhost", backends[0]), sockets("b.localhost")]},
        with_caddy=False,
    ) as stack:
        await stack.wait_published("b.localhost")
        agent = stack.agents["home"]
        async with stack.api.websocket("b.localhost") as socket:
            agent.set_services([sockets("b.localhost", "c.localhost", "*.d.localhost")])
            await stack.wait_published("x.d.localhost")
            assert await echoes(stack.api, "c.localhost")
            assert await echoes(stack.api, "x.d.localhost")
            agent.set_services(
                [sockets("c.localhost"), {"hostname": "b.localhost", "redirect_to": "c.localhost"}]
            )

            async def is_redirected() -> bool:
                return (await stack.api.get("b.localhost", "/")).status == 308

            await eventually(is_redirected, "the name is an alias now")
            await socket.send("still there")
            assert await socket.recv() == "still there"
            assert (await stack.api.get("x.d.localhost", "/")).error_code == "unknown_host"


class Granting:
    """A server that grants host names by its file, and an agent that asks for wildcards."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def change(self, **sections: Any) -> None:
        path = self.stack.folder / "server.yaml"
        path.write_text(json.dumps(json.loads(path.read_text()) | sections))
        self.stack.server.send_signal(signal.SIGHUP)

    async def get(self, host: str) -> Response:
        return await self.stack.api.get(host, "/echo")


@pytest.fixture
async def granting(
    tmp_path: Path, authority: Authority, backends: tuple[int, int]
) -> AsyncIterator[Granting]:
    asking = [
        service("home.localhost", backends[0]),
        service(APPS, backends[0], **named("wild")),
        service(SOCKETS, backends[1]),
        service("*", backends[0], **named("rest")),
    ]
    sections = {
        "unsafe_agents_may_claim_any_host": False,
        "grants": {"home": ["home.localhost"]},
        "limits": {"certificates_per_wildcard": 3},
    }
    async with Stack(tmp_path, authority, agents={"home": asking}, sections=sections) as stack:
        yield Granting(stack)


async def test_a_wildcard_needs_a_grant_of_the_same(granting: Granting) -> None:
    stack = granting.stack
    log = stack.agents["home"].process.text

    def is_told() -> bool:
        return "0trust grants add home '*'" in log()

    await eventually(is_told, "the agent's log names the command")
    assert f"0trust grants add home '{APPS}'" in log()
    assert (await granting.get("one.apps.localhost")).error_code == "unknown_host"
    granting.change(grants={"home": ["home.localhost", APPS, SOCKETS]})
    await stack.wait_published("one.apps.localhost")
    await stack.wait_published("one.ws.localhost")
    assert (await granting.get("anything.localhost")).error_code == "unknown_host"
    async with stack.caddy.websocket("one.ws.localhost") as socket:
        granting.change(grants={"home": ["home.localhost", SOCKETS, "*"]})
        await stack.wait_published("anything.localhost")
        await socket.send("still granted")
        assert await socket.recv() == "still granted"
        assert (await granting.get("one.apps.localhost")).get("x-service") == "rest"
        granting.change(grants={"home": ["home.localhost", "*"]})
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert (await granting.get("one.ws.localhost")).get("x-service") == "rest"


async def test_a_certificate_for_the_wildcard_serves_all_names(
    granting: Granting, tmp_path: Path
) -> None:
    """More than `certificates_per_wildcard`: Caddy asks for none."""
    stack = granting.stack
    folder = tmp_path / "own"
    ca_directory.create_authority(folder)
    ca_directory.issue_server(folder, "wildcard", ServerNames(dns=[APPS], ip=[]))
    own = {"cert_file": str(folder / "wildcard.crt"), "key_file": str(folder / "wildcard.key")}
    caddy = json.loads((stack.folder / "server.yaml").read_text())["caddy"]
    granting.change(
        grants={"home": ["home.localhost", APPS]}, caddy=caddy | {"certificates": [own]}
    )
    await stack.wait_published("one.apps.localhost")
    entrypoint = Entrypoint(stack.caddy.port, root=folder / "ca.crt")

    async def is_loaded() -> bool:
        with contextlib.suppress(ssl.SSLError):
            return (await entrypoint.get("loaded.apps.localhost", "/echo")).status == 200
        return False

    await eventually(is_loaded, "Caddy has loaded the certificate", 30)
    for number in range(6):
        assert (await entrypoint.get(f"x{number}.apps.localhost", "/echo")).status == 200
    assert (await stack.caddy.get("home.localhost", "/echo")).status == 200


async def test_clients_make_up_only_so_many_names_in_an_hour(granting: Granting) -> None:
    stack = granting.stack
    granting.change(grants={"home": ["home.localhost", APPS, "*"]})
    await stack.wait_published("one.apps.localhost")
    await stack.wait_published("anything.localhost")
    for suffix in ("apps.localhost", "localhost"):
        for number in range(3):
            assert (await stack.caddy.get(f"x{number}.{suffix}", "/echo")).status == 200
        for number in range(3, 5):
            with pytest.raises(ssl.SSLError, match="internal error"):
                await stack.caddy.get(f"x{number}.{suffix}", "/echo")
        assert (await stack.caddy.get(f"x0.{suffix}", "/echo")).status == 200
    assert (await stack.caddy.get("home.localhost", "/echo")).status == 200
    lines = [line for line in stack.server.text().splitlines() if "no certificate: " in line]
    assert len(lines) == 1, "once an hour for each agent and limit"
    assert "limit=certificates_per_wildcard" in lines[0]
