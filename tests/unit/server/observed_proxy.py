"""Requests of Anna and of a machine that run through a gate, and are observed."""

import asyncio
from typing import Any

from tests.unit.server.gated_proxy import ANNA, GatedProxy
from zerotrust.access.subject import Subject
from zerotrust.server.ops.recent_requests import RecentRequests
from zerotrust.server.ops.traffic_sampler import TrafficSampler
from zerotrust.tunnel.codes import KIND_CHUNKED, KIND_LENGTH, KIND_TUNNEL

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
HELLO = b"\x81\x05hello"


class ObservedProxy(GatedProxy):
    """`GatedProxy` whose requests are counted and kept.

    Attributes:
        now: the clock of the traffic.
    """

    def __init__(self, **about: Any) -> None:
        super().__init__({"allow": [{"group": "family"}, {"machine": "frame"}]}, **about)
        self.now = 1_000_000.0
        self.sampler = TrafficSampler(lambda: self.registry.sessions, clock=lambda: self.now)
        self.recent = RecentRequests()
        self.ingress.observers = (self.sampler.observe, self.recent.observe)

    async def open_websocket(self, subject: Subject = ANNA, path: str = "/ws?key=secret") -> None:
        """Open a WebSocket on a new connection."""
        self.connect()
        cookie, _ = self.enter(subject)
        origin = "Origin: https://app.example.com"
        upgrade = ("Connection: Upgrade", "Upgrade: websocket")
        await self.ask(f"GET {path}", cookie, origin, *upgrade)
        said = await self.answer(SWITCH, kind=KIND_TUNNEL)
        assert said.startswith(b"HTTP/1.1 101 ")

    async def begin_download(self, path: str = "/file") -> None:
        """Begin a download by the machine on a new connection, of which 5 bytes come."""
        self.connect()
        secret, _ = self.token("frame")
        await self.ask(f"GET {path}", f"X-0Trust-Token: {secret}")
        await self.answer_begun(OK, kind=KIND_CHUNKED, length=0, body=b"12345")

    async def get(self, path: str = "/", body: bytes = b"hello", status: int = 200) -> None:
        """Send one request of Anna, and answer it."""
        self.connect()
        cookie, _ = self.enter()
        await self.ask(f"GET {path}", cookie)
        await self.answer(b"HTTP/1.1 %d Some\r\n" % status, kind=KIND_LENGTH, body=body)

    async def send(self, data: bytes) -> bytes:
        """Send bytes of the backend; return what the client gets."""
        self.agent.session.send_data(self.last[0], data, end=False)
        return await self.hear()

    async def turn(self) -> None:
        """Let the loop run what is scheduled."""
        await asyncio.sleep(0)
