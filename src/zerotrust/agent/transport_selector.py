"""Chooses between a direct connection to the server and a WebSocket through its web server.

Some networks let only port 443 out: they drop or refuse connections to the tunnel's port, or reset
them within TLS. So `auto` begins with the direct connection and, if that has failed or takes longer
than HEAD_START, tries a WebSocket beside it; the first one that is established is taken. After a
WebSocket, the next connection begins with a WebSocket. The agent returns to direct connections when
one works again (agent.connection).
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Literal, cast

from zerotrust.errors import ProxyError
from zerotrust.net.channel import describe
from zerotrust.telemetry import logs

HEAD_START: Final = 2.0
"""Seconds that the preferred way has before the other one is tried beside it."""

MAX_WEBSOCKET_ATTEMPTS: Final = 3
"""Attempts at the same time: a web server may keep them waiting while the server restarts."""

Mode = Literal["auto", "direct", "websocket"]
ProtocolFactory = Callable[[], asyncio.Protocol]
Dial = Callable[[ProtocolFactory], Awaitable[asyncio.Transport]]

_log = logs.logger("agent")


class TransportSelector:
    """Connects by the way that works, and remembers it.

    Attributes:
        uses_websocket: the last connection was made by a WebSocket.
    """

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.uses_websocket = mode == "websocket"
        self._websocket_attempts = 0

    async def connect(
        self, protocol: ProtocolFactory, *, direct: Dial, websocket: Dial
    ) -> asyncio.Transport:
        """Connect a new protocol by one of two ways, and return its transport.

        Raises:
            OSError: no way works.
        """
        if self.mode == "direct":
            return await direct(protocol)
        if self.mode == "websocket":
            return await self._limited(websocket, protocol)
        return await _Race(self, protocol, direct, partial(self._limited, websocket)).run()

    async def _limited(self, websocket: Dial, protocol: ProtocolFactory) -> asyncio.Transport:
        if self._websocket_attempts == MAX_WEBSOCKET_ATTEMPTS:
            raise ConnectionError("earlier attempts have not ended")
        self._websocket_attempts += 1
        try:
            return await websocket(protocol)
        finally:
            self._websocket_attempts -= 1


class _Race:
    """One connection attempt by both ways."""

    def __init__(
        self, selector: TransportSelector, protocol: ProtocolFactory, direct: Dial, websocket: Dial
    ) -> None:
        self._selector = selector
        self._protocol = protocol
        self._direct = direct
        self._websocket = websocket
        self._winner: bool | None = None
        self._transport: asyncio.Transport | None = None
        self._failures: dict[bool, OSError] = {}

    async def run(self) -> asyncio.Transport:
        """Connect the protocol and return its transport.

        Raises:
            OSError: no way works.
        """
        loop = asyncio.get_running_loop()
        first = self._selector.uses_websocket
        attempts = {loop.create_task(self._attempt(first))}
        try:
            done, pending = await asyncio.wait(attempts, timeout=HEAD_START)
            if self._winner is None:
                pending.add(loop.create_task(self._attempt(not first)))
                attempts |= pending
            # The winner has to end by itself, because its connection would end with it.
            while pending and not any(attempt.result() for attempt in done):
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for attempt in attempts:
                attempt.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)
        if self._transport is None:
            for attempt in attempts:
                attempt.result()  # raises an exception that is no OSError: a bug
            raise self._failure() from self._failures[False]
        return self._transport

    async def _attempt(self, by_websocket: bool) -> bool:
        """Return True if the protocol was connected by this way."""
        try:
            await (self._websocket if by_websocket else self._direct)(
                lambda: _Candidate(self, by_websocket)
            )
        except OSError as error:
            self._failures[by_websocket] = error
        return self._winner is by_websocket

    def take(self, transport: asyncio.Transport, by_websocket: bool) -> None:
        """Give the first connection to the protocol, and close the other one."""
        if self._winner is not None:
            transport.abort()
            return
        self._winner = by_websocket
        self._transport = transport
        selector = self._selector
        if by_websocket and not selector.uses_websocket:
            reason = describe(self._failures[False]) if self._failures else "no answer"
            _log.warning("using a WebSocket: no direct connection to the server", reason=reason)
        elif selector.uses_websocket and not by_websocket:
            _log.info("using a direct connection to the server again")
        selector.uses_websocket = by_websocket
        protocol = self._protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def _failure(self) -> OSError:
        """Return an error with the reasons of both ways; the direct one's if something that speaks
        TLS answers there."""
        direct, websocket = self._failures[False], self._failures[True]
        if isinstance(direct, ssl.SSLError):
            return direct
        reasons = f"{describe(direct)}; by WebSocket: {describe(websocket)}"
        return (ProxyError if isinstance(direct, ProxyError) else ConnectionError)(reasons)


class _Candidate(asyncio.Protocol):
    """A connection that was made by one of the two ways."""

    def __init__(self, race: _Race, by_websocket: bool) -> None:
        self._race = race
        self._by_websocket = by_websocket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._race.take(cast("asyncio.Transport", transport), self._by_websocket)
