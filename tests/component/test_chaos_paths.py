"""Tests with IPv6 alone, a broken address family, and paths that drop large packets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.component.test_chaos import APP, HTTPS, RECOVERY, WS, Load
from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.namespace import HERE, HERE_6, BridgedNamespace, Namespace
from tests.support.processes import Process
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.model.base import join_address

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("namespace"),
]

NAME = "tunnel.test"
SOCKETS = 10
SMALL = 1280


@dataclass
class Case:
    """A stack whose agent and backends are in a namespace."""

    place: Namespace
    stack: Stack

    @property
    def agent(self) -> Process:
        return self.stack.agents["agent-1"].process

    def families(self) -> set[int]:
        """Return the families of the agent's sessions, 4 or 6, by the server's log."""
        return {
            6 if HERE_6.rpartition(":")[0] in line else 4
            for line in self.stack.server.text().splitlines()
            if "agent connected" in line or "agent reconnected" in line
        }

    def load(self) -> Load:
        return Load(self.stack, sockets=SOCKETS, uploads=1)


@contextlib.asynccontextmanager
async def case_in(
    place: Namespace,
    folder: Path,
    *,
    listen: str,
    address: str,
    loopback: str = "127.0.0.1",
    with_caddy: bool = False,
) -> AsyncIterator[Case]:
    """Yield a stack, not started yet, whose agent dials `address`."""
    origin, ws = Origin(folder, address=loopback), WsEcho(folder, address=loopback)
    for process in (origin, ws):
        process.argv[:0] = place.command
    async with origin, ws:
        services = [service(APP, origin.port), service(WS, ws.port)]
        for one, port in zip(services, (origin.port, ws.port), strict=True):
            one["upstreams"] = [{"address": f"http://{join_address(loopback, port)}"}]
        stack = Stack(
            folder / "stack",
            Authority(folder / "pki"),
            agents={"agent-1": services},
            with_caddy=with_caddy,
        )
        stack.listen(listen)
        agent = stack.agents["agent-1"]
        where = f"{address}:{stack.tunnel_port}"
        agent.set_up(server={**agent.config["server"], "address": where})
        agent.process.argv[:0] = place.command
        yield Case(place, stack)


async def test_a_network_with_ipv6_alone(tmp_path: Path) -> None:
    """The agent dials a name with AAAA only; backends, the API and Caddy are on [::1]."""
    with Namespace() as place:
        place.remove_ipv4()
        place.name_host(NAME, HERE_6)
        async with case_in(
            place, tmp_path, listen=HERE_6, address=NAME, loopback="::1", with_caddy=True
        ) as case:
            case.stack.use_ipv6_loopback()
            async with case.stack as stack, stack.caddy.websocket(WS) as socket:
                assert (await stack.caddy.get(APP, "/bytes/500000")).status == 200
                assert (await stack.api.get(APP, "/bytes/5", HTTPS)).status == 200
                place.unplug()
                await socket.send("hello")
                place.plug()
                assert await socket.recv() == "hello"
                assert case.families() == {6}


@pytest.mark.parametrize("lost", [HERE, HERE_6])
async def test_one_of_two_families_is_broken(tmp_path: Path, lost: str) -> None:
    """The packets of one family are dropped, when the agent starts and when it is connected."""
    other = HERE if lost == HERE_6 else HERE_6
    with Namespace() as place:
        place.name_host(NAME, HERE_6, HERE)
        async with case_in(place, tmp_path, listen="", address=NAME) as case:
            place.lose(lost)
            async with case.stack, case.load().running() as load:
                assert case.families() == {4 if lost == HERE_6 else 6}
                place.find(lost)
                place.lose(other)
                await eventually(lambda: len(case.families()) == 2, "the other family is used", 60)
                await load.all_heard(asyncio.get_running_loop().time(), 60)
                load.untouched()


@pytest.mark.parametrize("server", [HERE, HERE_6])
async def test_a_path_that_drops_large_packets(tmp_path: Path, server: str) -> None:
    with BridgedNamespace() as place:
        place.narrow(SMALL)
        async with case_in(
            place, tmp_path, listen=server, address=f"[{server}]" if ":" in server else server
        ) as case:
            async with case.stack, case.load().running() as load:
                assert (await case.stack.api.get(APP, "/bytes/2000000", HTTPS)).status == 200
                load.untouched()


async def test_a_path_that_begins_to_drop_large_packets(tmp_path: Path) -> None:
    """Streams go on over another connection, whose segments are small."""
    with BridgedNamespace() as place:
        async with case_in(place, tmp_path, listen=HERE, address=HERE) as case:
            async with case.stack, case.load().running() as load:
                place.narrow(SMALL)
                uploads = load.uploads
                await eventually(lambda: load.uploads > uploads + 1, "uploads go on", 90)
                await load.all_heard(asyncio.get_running_loop().time(), 60)
                load.untouched()


async def test_another_address(tmp_path: Path, measured: Measured) -> None:
    """The agent's machine loses its interface for a while, and then its address."""
    loop = asyncio.get_running_loop()
    with Namespace() as place:
        origin, ws = Origin(tmp_path), WsEcho(tmp_path)
        for backend in (origin, ws):
            backend.argv[:0] = place.command
        async with origin, ws:
            services = [service(APP, origin.port), service(WS, ws.port)]
            stack = Stack(
                tmp_path / "stack",
                Authority(tmp_path / "pki"),
                agents={"agent-1": services},
                with_caddy=False,
            )
            stack.listen(HERE)
            agent = stack.agents["agent-1"]
            agent.set_up(
                server={**agent.config["server"], "address": f"{HERE}:{stack.tunnel_port}"}
            )
            agent.process.argv[:0] = place.command
            async with stack, Load(stack).running() as load:
                place.unplug()
                await asyncio.sleep(3)
                since = loop.time()
                place.plug()
                plugged = await load.all_heard(since)
                since = loop.time()
                place.move("10.203.0.3")
                moved = await load.all_heard(since)
                measured(
                    f"an interface away for 3 s: p99 {plugged:.2f} s; another address: p99"
                    f" {moved:.2f} s"
                )
                load.untouched()
                assert plugged < RECOVERY + 1, "TCP's own pause has grown to a second or two"
                assert moved < RECOVERY + 1, (
                    "the agent looks each second whether it still has its address"
                )
