"""Test of revocation: of 1,000 WebSockets, the 500 of one agent end at once."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.conftest import Measured
from tests.support.admin_socket import admin_client
from tests.support.backends import WsEcho
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("revocation"),
]

EACH = 500
HOSTS = {"stolen": "stolen.example", "other": "other.example"}


@dataclass
class EchoCheck:
    """A WebSocket that sends numbers and checks that each comes back in order until it ends."""

    socket: ClientConnection
    said: int = 0
    heard: int = 0
    ended_at: float = 0.0
    code: int | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def go_on(self) -> None:
        try:
            while not self.over.is_set():
                await self.socket.send(str(self.said))
                self.said += 1
                assert await self.socket.recv() == str(self.heard)
                self.heard += 1
                await asyncio.sleep(0.5)
        except ConnectionClosed as error:
            self.ended_at = time.monotonic()
            self.code = error.rcvd.code if error.rcvd is not None else None


@pytest.fixture
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("revocation")
    async with WsEcho(folder) as echo:
        agents = {agent: [service(host, echo.port)] for agent, host in HOSTS.items()}
        sections = {
            "unsafe_agents_may_claim_any_host": False,
            "grants": {agent: [host] for agent, host in HOSTS.items()},
        }
        async with Stack(
            folder / "s", authority, agents=agents, with_caddy=False, sections=sections
        ) as stack:
            yield stack


async def open_checks(stack: Stack, host: str, stack_of: AsyncExitStack) -> list[EchoCheck]:
    """Open EACH WebSockets, fifty at a time."""
    found: list[EchoCheck] = []
    for _ in range(EACH // 50):
        opened = [
            stack_of.enter_async_context(stack.api.websocket(host, close_timeout=1))
            for _ in range(50)
        ]
        found += [EchoCheck(socket) for socket in await asyncio.gather(*opened)]
    return found


async def test_revoking_one_agent_of_two(stack: Stack, measured: Measured) -> None:
    async with AsyncExitStack() as sockets:
        stolen = await open_checks(stack, HOSTS["stolen"], sockets)
        other = await open_checks(stack, HOSTS["other"], sockets)
        going = [asyncio.create_task(check.go_on()) for check in (*stolen, *other)]
        await eventually(
            lambda: all(check.heard for check in (*stolen, *other)), "all of them talk", 30
        )

        since = stack.server.position()
        # Over the socket, as the command does it: a program that starts takes a second by itself.
        async with admin_client(stack.folder / "state" / "admin.sock") as admin:
            begun_at = time.monotonic()
            done = (
                await admin.post("/v1/agents/revoke", json={"agent": "stolen", "reason": "stolen"})
            ).json()
        assert done["sessions"] in (1, 2), "its second connection may not have come yet"
        assert done["streams"] == EACH
        await eventually(
            lambda: all(check.ended_at for check in stolen), "those of the revoked agent end", 5
        )
        late = max(check.ended_at for check in stolen) - begun_at
        codes = {
            code: sum(check.code == code for check in stolen)
            for code in {check.code for check in stolen}
        }
        spread = max(check.ended_at for check in stolen) - min(check.ended_at for check in stolen)
        assert late < 2, "half a second, on a machine that has nothing else to do"
        assert spread < 1
        assert codes == {1008: EACH}

        await stack.server.wait_line("agent refused.*was revoked", since=since)
        heard = [check.heard for check in other]
        await eventually(
            lambda: all(a.heard > b for a, b in zip(other, heard, strict=True)),
            "the others go on",
            10,
        )
        for check in other:
            check.over.set()
        await asyncio.gather(*going)
        assert all(check.said == check.heard and not check.ended_at for check in other)
        assert (await stack.api.get(HOSTS["stolen"], "/")).status == 503
        # Not those of the other one: its second connection may come only now.
        assert not re.search(r"agent connected.*agent=stolen", stack.server.text(since))
    messages = sum(check.heard for check in other)
    measured(
        f"{EACH} of {2 * EACH} WebSockets revoked: all ended {late * 1000:.0f} ms after it was"
        f" asked for, within {spread * 1000:.0f} ms of each other, codes {codes}; the other {EACH}"
        f" lost none of {messages} messages"
    )
