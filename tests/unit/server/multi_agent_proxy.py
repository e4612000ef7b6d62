"""A client connection and several agents that serve `app.example.com`, without a network."""

import asyncio
from typing import Any

from tests.support.agent_sessions import join
from tests.support.transport import FakeTransport
from tests.support.tunnel import Pair, RecordingSink
from tests.unit.middleware.policy_runner import SECRET
from tests.unit.server.proxy_fixture import build_ingress
from zerotrust.model.server import ProxyApi
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_policy import compile_service_policy
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.tunnel.binary import RequestOpen, pack_head, unpack_open
from zerotrust.tunnel.codes import KIND_LENGTH, Code
from zerotrust.tunnel.stream import Stream

HOST = "app.example.com"


class Agent:
    """An agent's session, at both ends."""

    def __init__(self, proxy: "MultiAgentProxy", name: str, policy: dict[str, Any] | None) -> None:
        self.pair = Pair()
        self.pair.pump()
        self.registry = proxy.registry
        self.agent_session = join(self.registry, name, self.pair.server.session)
        service = f"app-{name}"
        before = self.registry.former_policy(self.agent_session, service)
        compiled = compile_service_policy(policy, secret=SECRET, before=before)
        self.claim = ServiceRegistration(
            self.agent_session, service, service.encode(), (HOST,), True, compiled
        )
        self.registry.register(self.claim)

    @property
    def opened(self) -> list[RequestOpen]:
        """Requests that reached the agent."""
        return [unpack_open(payload) for payload in self.pair.agent.payloads.values()]

    @property
    def last(self) -> tuple[Stream, RecordingSink]:
        """Stream and sink of the last request."""
        number = max(self.pair.agent.sinks)
        return self.pair.agent.session.streams[number], self.pair.agent.sinks[number]

    def refuse(self, code: Code, reason: str = "") -> None:
        """Reset the last request."""
        self.pair.agent.session.reset(self.last[0], code, reason)

    def say(
        self, block: bytes, *, kind: int = 0, body: bytes | None = None, interim: bool = False
    ) -> None:
        """Answer the last request."""
        stream, _ = self.last
        end = kind == 0 and not interim
        payload = pack_head(kind, 0, len(body or b"") if kind == KIND_LENGTH else 0, block)
        self.pair.agent.session.send_head(stream, payload, end=end, interim=interim)
        if body is not None:
            self.pair.agent.session.send_data(stream, body, end=kind == 1)

    def lose(self, code: Code = Code.SUPERSEDED) -> None:
        """Close the session at the server; its sent data is in transit."""
        self.pair.server.session.close(code, "it is over")
        self.registry.remove(self.agent_session)


class MultiAgentProxy:
    """The agents, in the order in which they get requests, and a client connection."""

    def __init__(
        self, *policies: dict[str, Any] | None, names: str = "abcdef", hold_timeout: float = 0.0
    ) -> None:
        self.registry = Registry()
        self.tasks = Tasks()
        self.ingress = build_ingress(
            self.registry, tasks=self.tasks, api=ProxyApi(hold_timeout=hold_timeout)
        )
        self.agents = [
            Agent(self, name, policy) for name, policy in zip(names, policies, strict=False)
        ]
        self.connect()

    def connect(self) -> None:
        """Open a new client connection."""
        self.connection = HttpServerConnection(
            WriteCoalescer(asyncio.get_running_loop()), self.ingress, set()
        )
        self.transport = FakeTransport(self.connection.as_protocol())

    def send(self, start: str, *fields: str, body: bytes = b"") -> None:
        """Send a request; nothing of it has left the server yet."""
        lines = [f"{start} HTTP/1.1", f"Host: {HOST}", "X-Real-IP: 203.0.113.7", *fields, "", ""]
        self.connection.data_received("\r\n".join(lines).encode("latin-1") + body)

    async def ask(self, start: str, *fields: str, body: bytes = b"") -> bytes:
        """Send a request; return the bytes that are written in answer at once."""
        self.send(start, *fields, body=body)
        return await self.hear()

    async def hear(self) -> bytes:
        """Deliver all frames; return the bytes that the client gets."""
        said = b""
        for _ in range(3):
            for agent in self.agents:
                agent.pair.pump()
            said += await self.transport.written()
        return said

    @property
    def counts(self) -> list[int]:
        """The number of requests that reached each agent."""
        return [len(agent.opened) for agent in self.agents]
