"""Tests of zerotrust.agent.transport_selector, with ways to the server that a test opens."""

import asyncio
import ssl
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.support.waiting import eventually
from zerotrust.agent import transport_selector
from zerotrust.agent.transport_selector import (
    MAX_WEBSOCKET_ATTEMPTS,
    Mode,
    ProtocolFactory,
    TransportSelector,
)

pytestmark = pytest.mark.anyio


class Way:
    """A way to the server: open, broken, or without an answer until it is either."""

    def __init__(self, state: str = "silent") -> None:
        self.error: OSError = ConnectionRefusedError()
        self.attempts = self.cancelled = 0
        self.transports: list[Transport] = []
        self._changed = asyncio.Event()
        self._state = state

    def become(self, state: str) -> None:
        self._state = state
        self._changed.set()

    async def dial(self, protocol: ProtocolFactory) -> asyncio.Transport:
        self.attempts += 1
        try:
            while self._state == "silent":
                await self._changed.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._state == "broken":
            raise self.error
        transport = Transport(protocol())
        self.transports.append(transport)
        # A dial returns some time after the connection was made.
        await asyncio.sleep(0)
        return transport


class Transport(asyncio.Transport):
    """A connection that was made."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.is_aborted = False
        protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("asyncio.Protocol", protocol)

    def abort(self) -> None:
        self.is_aborted = True


class Session(asyncio.Protocol):
    """The protocol that is to be connected."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self.transport is None
        self.transport = transport


class Fixture:
    """A selector with two ways, and the sessions that it has connected."""

    def __init__(self, direct: str, websocket: str, mode: Mode = "auto") -> None:
        self.direct, self.websocket = Way(direct), Way(websocket)
        self.selector = TransportSelector(mode)
        self.sessions: list[Session] = []

    async def connect(self) -> Way:
        """Connect a session; return its way."""
        transport = await self.selector.connect(
            self._session, direct=self.direct.dial, websocket=self.websocket.dial
        )
        assert transport in [session.transport for session in self.sessions]
        return self.direct if transport in self.direct.transports else self.websocket

    def _session(self) -> Session:
        self.sessions.append(Session())
        return self.sessions[-1]


@pytest.fixture
def no_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_selector, "HEAD_START", 0.0)


async def test_the_direct_way_is_preferred() -> None:
    fixture = Fixture("open", "open")
    assert await fixture.connect() is fixture.direct
    assert not fixture.websocket.attempts and not fixture.selector.uses_websocket


async def test_a_refused_connection_is_made_by_websocket_at_once() -> None:
    fixture = Fixture("broken", "open")
    with capture_logs() as logs:
        assert await fixture.connect() is fixture.websocket
        assert await fixture.connect() is fixture.websocket
    # It begins with what has worked.
    assert fixture.direct.attempts == 1
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("using a WebSocket: no direct connection to the server", "connection refused")
    ]


@pytest.mark.usefixtures("no_head_start")
async def test_the_first_of_both_ways_is_taken() -> None:
    fixture = Fixture("silent", "open")
    with capture_logs() as logs:
        assert await fixture.connect() is fixture.websocket
    assert fixture.direct.cancelled == 1 and len(fixture.sessions) == 1
    assert logs[0]["reason"] == "no answer"
    fixture.websocket.become("broken")
    fixture.direct.become("open")
    with capture_logs() as logs:
        assert await fixture.connect() is fixture.direct
    assert [entry["event"] for entry in logs] == ["using a direct connection to the server again"]
    assert not fixture.selector.uses_websocket


@pytest.mark.usefixtures("no_head_start")
async def test_the_second_connection_is_closed() -> None:
    fixture = Fixture("silent", "silent")
    connecting = asyncio.ensure_future(fixture.connect())
    await eventually(lambda: fixture.websocket.attempts == 1, "both ways are tried")
    fixture.direct.become("open")
    fixture.websocket.become("open")
    await connecting
    assert len(fixture.sessions) == 1
    transports = fixture.direct.transports + fixture.websocket.transports
    assert [one.is_aborted for one in transports] == [False, True][: len(transports)]


async def test_the_error_names_both_ways() -> None:
    fixture = Fixture("broken", "broken")
    fixture.websocket.error = ConnectionAbortedError()
    with pytest.raises(
        ConnectionError, match=r"^connection refused; by WebSocket: connection reset$"
    ):
        await fixture.connect()


async def test_a_certificate_that_is_not_trusted_is_the_reason() -> None:
    fixture = Fixture("broken", "broken")
    fixture.direct.error = ssl.SSLCertVerificationError("expired")
    with pytest.raises(ssl.SSLCertVerificationError):
        await fixture.connect()


@pytest.mark.parametrize("mode", ["direct", "websocket"])
async def test_a_mode_has_one_way(mode: Any) -> None:
    ways = {"direct": "broken", "websocket": "broken"}
    fixture = Fixture(**(ways | {mode: "open"}), mode=mode)
    assert await fixture.connect() is getattr(fixture, mode)
    assert fixture.direct.attempts + fixture.websocket.attempts == 1
    assert fixture.selector.uses_websocket is (mode == "websocket")


async def test_attempts_by_websocket_are_bounded() -> None:
    fixture = Fixture("broken", "silent", mode="websocket")
    pending = [asyncio.ensure_future(fixture.connect()) for _ in range(MAX_WEBSOCKET_ATTEMPTS)]
    await eventually(
        lambda: fixture.websocket.attempts == MAX_WEBSOCKET_ATTEMPTS, "all attempts wait"
    )
    with pytest.raises(ConnectionError, match="earlier attempts have not ended"):
        await fixture.connect()
    fixture.websocket.become("open")
    await asyncio.gather(*pending)
    assert await fixture.connect() is fixture.websocket


async def test_cancelling_ends_both_ways() -> None:
    fixture = Fixture("silent", "silent")
    connecting = asyncio.ensure_future(fixture.connect())
    await eventually(lambda: fixture.direct.attempts == 1, "it connects")
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert fixture.direct.cancelled == 1
