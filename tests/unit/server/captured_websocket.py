"""A WebSocket whose messages are captured, without a network."""

import asyncio
import zlib
from typing import Any

from tests.support.waiting import eventually
from tests.unit.http.generated_frames import Frame
from tests.unit.server.open_websocket import relay_of, websocket
from tests.unit.server.proxy_fixture import ProxyFixture
from zerotrust.server.proxy.capture import Capture, CapturedMessage, CaptureOrder
from zerotrust.server.proxy.captures import Captures
from zerotrust.server.proxy.websocket_relay import WebSocketRelay

ALLOWED: dict[str, Any] = {"access": {"inspection": "payload"}}
NOW = 1_800_000_000.0
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


class RecordedCaptures:
    """Audit log in a list."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, Any]] = []

    async def record(
        self, action: str, *, actor: str, agent: str | None = None, details: Any = None
    ) -> None:
        assert agent == "home"
        self.records.append((action, actor, details))

    async def note(
        self, action: str, details: Any, *, actor: str = "server", agent: str | None = None
    ) -> None:
        await self.record(action, actor=actor, agent=agent, details=details)


class CapturedWebSocket:
    """A proxy with one WebSocket, and captures.

    Attributes:
        now: the clock of the captures.
    """

    def __init__(self, proxy: ProxyFixture) -> None:
        self.proxy = proxy
        self.now = 0.0
        self.audit = RecordedCaptures()
        self.captures = Captures(
            self.audit, proxy.tasks, clock=lambda: self.now, unix_clock=lambda: NOW
        )
        proxy.ingress.captures = self.captures

    @classmethod
    async def open(
        cls, sent: bytes = b"", *, policy: dict[str, Any] | None = None, lines: bytes = b""
    ) -> "CapturedWebSocket":
        """Open a WebSocket through which the backend has sent these bytes."""
        return cls(await websocket(sent, policy=ALLOWED if policy is None else policy, lines=lines))

    @property
    def relay(self) -> WebSocketRelay:
        relay = relay_of(self.proxy)
        assert isinstance(relay, WebSocketRelay)
        return relay

    def order(self, **changes: Any) -> CaptureOrder:
        """Return an order for the open WebSocket."""
        about = {
            "host": "app.example.com",
            "agent": "home",
            "service": "app",
            "connection": self.relay.context.id,
            "reason": "the app shows nothing",
            "actor": "user anna",
            "seconds": 600.0,
        }
        return CaptureOrder(**{**about, **changes})

    async def start(self, **changes: Any) -> Capture:
        """Capture the open WebSocket."""
        return await self.captures.start(self.order(**changes), self.relay)

    async def next(self, host: str = "app.example.com", **changes: Any) -> Capture:
        """Capture the next WebSocket of a host name."""
        return await self.captures.start(self.order(host=host, connection="", **changes), None)

    async def say(self, data: bytes) -> None:
        """Send bytes of the backend."""
        self.proxy.agent.session.send_data(self.proxy.last[0], data)
        assert await self.proxy.hear() == data

    def ask(self, frame: Frame) -> None:
        """Send a frame of the client."""
        masked = Frame(frame.first, frame.payload, masked=True)
        self.proxy.connection.data_received(masked.data)

    async def captured(self, capture: Capture, count: int) -> list[CapturedMessage]:
        """Wait for messages; return all that are kept."""
        await eventually(lambda: capture.count >= count, f"{count} messages are captured")
        return list(capture.messages)

    async def ended(self, capture: Capture) -> dict[str, Any]:
        """Wait for the end of a capture; return its only record."""
        await eventually(lambda: capture.is_recorded, "the end is recorded")
        (details,) = [one[2] for one in self.audit.records if one[0] == "capture.ended"]
        return dict(details)

    async def close(self) -> None:
        await self.proxy.tasks.close()


def deflated(made: Any, text: bytes) -> bytes:
    """Return a compressed message of a sender."""
    data = made.compress(text) + made.flush(zlib.Z_SYNC_FLUSH)
    return Frame(0xC1, data.removesuffix(b"\x00\x00\xff\xff")).data


async def turns(count: int = 20) -> None:
    """Let the loop run what is scheduled."""
    for _ in range(count):
        await asyncio.sleep(0)
