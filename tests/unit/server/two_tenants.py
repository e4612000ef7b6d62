"""Two tenants of one server, and clients that reach both over shared connections, as Caddy does.

`good.example` belongs to an agent that answers each request with its target. `evil.example`
belongs to one that sends any frames that a test makes. Clients parse answers with h11, which knows
by itself where an answer ends.
"""

import asyncio
from typing import Any

import h11

from tests.support.agent_sessions import join
from tests.support.transport import FakeTransport
from tests.support.tunnel import Pair
from tests.unit.middleware.policy_runner import SECRET
from tests.unit.server.proxy_fixture import build_ingress
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_policy import compile_service_policy
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.tunnel.binary import pack_head, unpack_open
from zerotrust.tunnel.codes import KIND_LENGTH
from zerotrust.tunnel.frames import encode
from zerotrust.tunnel.session import SessionOptions

GOOD, EVIL = "good.example", "evil.example"


class Tenant:
    """One agent with both ends of its session; tests bypass the agent's end to send frames."""

    def __init__(self, registry: Registry, host: str, policy: dict[str, Any] | None) -> None:
        # Frames that a test makes by itself are not in the agent's count, so it acknowledges
        # nothing.
        self.pair = Pair(agent_options=SessionOptions(capabilities=()))
        self.pair.pump()
        session = join(registry, host, self.pair.server.session)
        guard = compile_service_policy(policy, secret=SECRET, before=None)
        registry.register(ServiceRegistration(session, host, host.encode(), (host,), True, guard))

    @property
    def streams(self) -> list[int]:
        """All streams so far."""
        return sorted(self.pair.agent.payloads)

    @property
    def open(self) -> list[int]:
        """Streams that are open at the server."""
        return sorted(self.pair.server.session.streams)

    def target(self, stream: int) -> str:
        return unpack_open(self.pair.agent.payloads[stream]).block.split(b" ")[1].decode()

    def say(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Send a frame past the checks of the agent's own session."""
        self.pair.server.feed(encode(kind, flags, stream, payload))

    def answer(self) -> None:
        """Answer all requests correctly."""
        self.pair.pump()
        for number, stream in list(self.pair.agent.session.streams.items()):
            if stream.sending.name == "HEAD":
                body = self.target(number).encode()
                block = b"HTTP/1.1 200 OK\r\nX-From: good\r\n"
                self.pair.agent.session.send_head(
                    stream, pack_head(KIND_LENGTH, 0, len(body), block)
                )
                self.pair.agent.session.send_data(stream, body, end=True)
        self.pair.pump()


class Client:
    """A client connection, reused for further requests while both ends allow it."""

    def __init__(self, ingress: Ingress) -> None:
        self.connection = HttpServerConnection(
            WriteCoalescer(asyncio.get_running_loop()), ingress, set()
        )
        self.transport = FakeTransport(self.connection.as_protocol())
        self._parser = h11.Connection(h11.CLIENT)
        self.host = ""
        self.target = ""
        self.status = 0
        self.from_good = self.refused = self.switched = False
        """Origin of the head (good agent, server), and whether the connection is a tunnel now."""
        self.body = b""
        self.broken = False
        """True if the answer or the connection ended in a way that the client notices."""

    @property
    def is_idle(self) -> bool:
        """True if the client may send its next request."""
        states = (self._parser.our_state, self._parser.their_state)
        return not self.closed and (states in ((h11.IDLE, h11.IDLE), (h11.DONE, h11.DONE)))

    @property
    def waits(self) -> bool:
        """True if the client waits for the rest of an answer."""
        return not self.broken and self._parser.their_state in (h11.SEND_RESPONSE, h11.SEND_BODY)

    @property
    def closed(self) -> bool:
        return self.broken or self.transport.is_closing() or self.transport.has_eof

    def send(
        self,
        method: str,
        host: str,
        target: str,
        *fields: tuple[str, str],
        body: bytes | None = None,
    ) -> None:
        """Send a request; `body` is the sent part of a 4-byte body."""
        if self._parser.our_state is h11.DONE:
            self._parser.start_next_cycle()
        self.host, self.target, self.status, self.body = host, target, 0, b""
        self.from_good = self.refused = False
        headers = [
            ("Host", host),
            *fields,
            *([("Content-Length", "4")] if body is not None else []),
        ]
        data = self._parser.send(h11.Request(method=method, target=target, headers=headers)) or b""
        if body is not None:
            data += self._parser.send(h11.Data(data=body)) or b""
        if body is None or len(body) == 4:
            data += self._parser.send(h11.EndOfMessage()) or b""
        self.connection.data_received(data)

    async def hear(self) -> None:
        """Parse the written bytes; bytes outside an answer fail the test."""
        data = await self.transport.written()
        if not data and not self.transport.is_closing():
            return
        assert not data or not self.is_idle, f"bytes that nobody asked for: {data!r}"
        try:
            if data:
                self._parser.receive_data(data)
            self._read()
            if self.transport.is_closing() and not self.switched:
                self._parser.receive_data(b"")
                self._read()
        except h11.RemoteProtocolError:
            assert self.transport.is_closing(), f"not HTTP: {data!r}"
            self.broken = True
        self.broken |= self.transport.is_closing() and not self.switched and not self.status
        if self._parser.their_state is h11.DONE:
            assert self._parser.trailing_data == (b"", self.transport.is_closing()), (
                self._parser.trailing_data
            )

    def _read(self) -> None:
        while True:
            event = self._parser.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(
                event, (h11.EndOfMessage, h11.ConnectionClosed)
            ):
                return
            if isinstance(event, h11.Response):
                self.status = event.status_code
                fields = dict(event.headers)
                self.from_good = fields.get(b"x-from") == b"good"
                self.refused = b"x-0trust-error" in fields
            elif isinstance(event, h11.InformationalResponse):
                self.switched = event.status_code == 101
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)

    def check(self) -> None:
        """Assert that the answer is from the agent of this request, or an error of the server."""
        if not self.status:
            return
        if self.host == GOOD:
            assert self.from_good or self.status in (502, 503, 504), (self.status, self.body)
            if self.from_good and self._parser.their_state is h11.DONE:
                assert (self.status, self.body.decode()) == (200, self.target)
        else:
            assert not self.from_good


class TwoTenants:
    """A server with both agents; the hostile one may have a policy."""

    def __init__(self, policy: dict[str, Any] | None = None) -> None:
        self.registry = Registry()
        self.ingress = build_ingress(self.registry)
        self.good = Tenant(self.registry, GOOD, None)
        self.evil = Tenant(self.registry, EVIL, policy)

    def connect(self) -> Client:
        """Open a client's connection."""
        return Client(self.ingress)

    async def settle(self, *clients: Client) -> None:
        """Deliver all frames and bytes."""
        for _ in range(2):
            self.good.pair.pump()
            self.evil.pair.pump()
            for client in clients:
                await client.hear()
