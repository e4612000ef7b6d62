"""Tests of two tenants on Caddy's shared connections; a hostile agent affects only itself.

The hostile agent frames its answers so that Caddy and the server could disagree about where they
end. Then clients of the other tenant send requests, the agent sends more on its old streams, and
only then the other backend answers.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.support.bad_certificates import Credentials
from tests.support.client import Response
from tests.support.ports import free_port
from tests.support.raw_agent import RawAgent, session
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.tunnel.binary import pack_head, pack_reason
from zerotrust.tunnel.codes import (
    END,
    FLAG_ANNOUNCE,
    KIND_CHUNKED,
    KIND_LENGTH,
    KIND_NONE,
    FrameType,
)
from zerotrust.tunnel.frames import encode

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("tenants"),
]

APP, MINE = "app.localhost", "m.localhost"
ATTACKS, VICTIMS = 8, 6
PATIENCE = 5.0

FORGED = b"HTTP/1.1 200 OK\r\nSet-Cookie: owned=1\r\nContent-Length: 4\r\n\r\nevil"

Frame = tuple[int, int, bytes]


def head(status: int, kind: int, length: int, *, flags: int = 0, end: bool = False) -> Frame:
    return (
        FrameType.HEAD,
        END if end else 0,
        pack_head(kind, flags, length, b"HTTP/1.1 %d X\r\n" % status),
    )


def data(payload: bytes, *, end: bool = False) -> Frame:
    return FrameType.DATA, END if end else 0, payload


RESET: Frame = (FrameType.RESET, 0, pack_reason(8, "so it is"))

CASES: dict[str, tuple[str, list[Frame], list[Frame]]] = {
    "HEAD with a length, then a body": (
        "HEAD",
        [head(200, KIND_LENGTH, len(FORGED))],
        [data(FORGED)],
    ),
    "204 with a length, then a body": (
        "GET",
        [head(204, KIND_LENGTH, len(FORGED))],
        [data(FORGED)],
    ),
    "304 with a length, then a body": (
        "GET",
        [head(304, KIND_LENGTH, len(FORGED))],
        [data(FORGED)],
    ),
    "204 in chunks, then a body": ("GET", [head(204, KIND_CHUNKED, 0)], [data(FORGED, end=True)]),
    "a length, the body, and no end": ("GET", [head(200, KIND_LENGTH, 2), data(b"ok")], []),
    "a length, the body, a reset": ("GET", [head(200, KIND_LENGTH, 2), data(b"ok")], [RESET]),
    "a length, the body, then more": (
        "GET",
        [head(200, KIND_LENGTH, 2), data(b"ok")],
        [data(FORGED)],
    ),
    "a length, the body, more at once": (
        "GET",
        [head(200, KIND_LENGTH, 2), data(b"ok" + FORGED)],
        [],
    ),
    "a length of 0, then a body": ("GET", [head(200, KIND_LENGTH, 0)], [data(FORGED)]),
    "an announced length of 0 with chunks": (
        "GET",
        [head(200, KIND_CHUNKED, 0, flags=FLAG_ANNOUNCE)],
        [data(FORGED, end=True)],
    ),
    "no body where one is due": ("GET", [head(200, KIND_NONE, 0, end=True)], []),
    "an announced body where one is due": (
        "GET",
        [head(200, KIND_NONE, 4, flags=FLAG_ANNOUNCE, end=True)],
        [],
    ),
    "no body and no end": ("GET", [head(200, KIND_NONE, 0)], [data(FORGED)]),
    "a length that overflows": ("GET", [head(200, KIND_LENGTH, 2**64 - 1)], [data(FORGED)]),
}


class HeldBackend:
    """The other tenant's backend; it answers each request with its target once `go` is set."""

    def __init__(self) -> None:
        self.port = free_port()
        self.waiting = 0
        self.go = asyncio.Event()
        self.go.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
                self.waiting += 1
                await self.go.wait()
                self.waiting -= 1
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target)
                )
        writer.close()


class Scenario:
    """The stack, the other tenant's backend, and the hostile agent's session."""

    def __init__(self, stack: Stack, backend: HeldBackend, agent: RawAgent) -> None:
        self.stack = stack
        self.backend = backend
        self.agent = agent
        self.streams: list[int] = []
        self.frames: list[Frame] = []
        self.heard = asyncio.Event()

    async def answer(self) -> None:
        """Answer each request with `frames`."""
        while True:
            kind, _, stream, _ = await self.agent.frame()
            if kind == FrameType.OPEN:
                self.streams.append(stream)
                await self.say(self.frames, stream)
            elif kind == FrameType.PONG:
                self.heard.set()

    async def say(self, frames: list[Frame], stream: int) -> None:
        await self.agent.send(
            b"".join(encode(kind, flags, stream, payload) for kind, flags, payload in frames)
        )

    async def say_late(self, frames: list[Frame]) -> None:
        """Send more on all streams; wait until the server has read it."""
        for stream in self.streams:
            await self.say(frames, stream)
        self.heard.clear()
        await self.agent.say(FrameType.PING, b"are you?")
        await self.heard.wait()

    async def attack(self, method: str) -> None:
        """Send a request to the hostile tenant; it may have any result but must have one."""
        async with await self.stack.caddy.open(MINE, patience=PATIENCE) as client:
            with contextlib.suppress(OSError, EOFError, AssertionError):
                await client.request(method, "/attack")

    async def ask(self, number: int) -> Response:
        """A request to the other tenant."""
        async with await self.stack.caddy.open(APP, patience=PATIENCE) as client:
            return await client.get(f"/private/{number}")


@pytest.fixture(scope="module")
async def scenario(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scenario]:
    folder = tmp_path_factory.mktemp("tenants")
    authority = Authority(folder / "authority")
    backend = HeldBackend()
    sections = {
        "unsafe_agents_may_claim_any_host": False,
        "grants": {"good": [APP], "mallory": [MINE]},
    }
    stack = Stack(
        folder / "stack",
        authority,
        agents={"good": [service(APP, backend.port)]},
        sections=sections,
        level="debug",
    )
    chain, key = authority.agent("mallory")
    mallory = Credentials(chain=chain, key=key, root=authority.root).client()
    server = await asyncio.start_server(backend.serve, "127.0.0.1", backend.port)
    async with server, stack, session(stack.tunnel_port, mallory) as agent:
        assert (await agent.register("m", MINE)).accepted == [MINE]
        await agent.say(FrameType.READY)
        scenario = Scenario(stack, backend, agent)
        answering = asyncio.create_task(scenario.answer())
        yield scenario
        answering.cancel()
        assert "Traceback" not in stack.server.text()


@pytest.mark.parametrize("case", CASES)
async def test_an_answer_that_ends_elsewhere_reaches_nobody_else(
    scenario: Scenario, case: str
) -> None:
    method, scenario.frames, late = CASES[case]
    scenario.streams.clear()
    try:
        async with asyncio.timeout(4 * PATIENCE):
            attacks = [asyncio.create_task(scenario.attack(method)) for _ in range(ATTACKS)]
            await eventually(
                lambda: len(scenario.streams) == ATTACKS, "the agent has answered all attacks"
            )
            await asyncio.wait(attacks, timeout=1.0)
            scenario.backend.go.clear()
            victims = [asyncio.create_task(scenario.ask(number)) for number in range(VICTIMS)]
            with contextlib.suppress(AssertionError):  # those that never arrive fail below
                await eventually(
                    lambda: scenario.backend.waiting == VICTIMS, "all have reached their backend", 2
                )
            await scenario.say_late(late)
            scenario.backend.go.set()
            responses = await asyncio.gather(*victims)
            await scenario.say_late([RESET])
            await asyncio.gather(*attacks)
    finally:
        scenario.backend.go.set()
    assert [(one.status, one.body.decode()) for one in responses] == [
        (200, f"/private/{n}") for n in range(VICTIMS)
    ]
    assert not any(one.get("set-cookie") for one in responses)
