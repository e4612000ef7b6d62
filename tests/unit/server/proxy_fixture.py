"""A client connection, the ingress and an agent session, without a network."""

import asyncio
from typing import Any, cast

from tests.support.agent_sessions import join
from tests.support.transport import FakeTransport
from tests.support.tunnel import Owner, Pair, RecordingSink
from tests.unit.middleware.policy_runner import SECRET
from zerotrust.model.server import LOOPBACK, ProxyApi
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.server.agents.listener import AgentListener
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.scheme import USUAL, OfferedSchemes
from zerotrust.server.agents.service_policy import compile_service_policy
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.agents.websocket_endpoint import WebSocketEndpoint
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.server.proxy.pending_requests import PendingRequests
from zerotrust.server.proxy.proxy_trust import ProxyTrust
from zerotrust.server.proxy.verification_pool import VerificationPool
from zerotrust.telemetry.request_record import RequestRecord
from zerotrust.tunnel.binary import RequestOpen, pack_head, unpack_open
from zerotrust.tunnel.codes import KIND_LENGTH
from zerotrust.tunnel.stream import Stream

PROXY_SECRET = "a secret of Caddy, for tests"


def build_ingress(
    registry: Registry,
    *,
    tasks: Tasks | None = None,
    api: ProxyApi | None = None,
    https_port: int = 443,
    overload: LoadShedding | None = None,
) -> Ingress:
    """Return an ingress, wired as in `zerotrust.server.proxy_endpoint`.

    Without `api` no request waits for its agent.
    """
    api = api or ProxyApi(hold_timeout=0.0)
    pending = PendingRequests(registry, timeout=api.hold_timeout)
    registry.subscribe(pending.host_served)
    verifications = VerificationPool(tasks or Tasks())
    return Ingress(
        registry,
        api,
        trust=ProxyTrust(api.trusted_proxies or LOOPBACK, PROXY_SECRET),
        pending=pending,
        verifications=verifications,
        agents=WebSocketEndpoint(cast("AgentListener", None), []),
        https_port=https_port,
        overload=overload,
    )


class ProxyFixture:
    """One client connection to `app.example.com`, whose service has this policy."""

    signs_in = False

    def __init__(
        self,
        policy: dict[str, Any],
        *,
        binding: OfferedSchemes = USUAL,
        overload: LoadShedding | None = None,
        api: ProxyApi | None = None,
    ) -> None:
        self.binding = binding
        self.pair = Pair()
        self.pair.pump()
        self.tasks = Tasks()
        self.registry = Registry()
        self.agent_session = join(self.registry, "home", self.pair.server.session)
        self.register(policy)
        self.ingress = build_ingress(self.registry, tasks=self.tasks, overload=overload, api=api)
        self.records: list[RequestRecord] = []
        self.connect()

    def connect(self) -> None:
        """Open a new client connection."""
        self.connection = HttpServerConnection(
            WriteCoalescer(asyncio.get_running_loop()), self.ingress, set()
        )
        self.transport = FakeTransport(self.connection.as_protocol())

    def observe(self) -> None:
        """Collect the records of finished requests from now on."""
        self.ingress.observers = (self.records.append,)

    def register(
        self, policy: dict[str, Any] | None, hosts: tuple[str, ...] = ("app.example.com",)
    ) -> None:
        before = self.registry.former_policy(self.agent_session, "app")
        guard = compile_service_policy(policy, secret=SECRET, before=before, signs_in=self.signs_in)
        claim = ServiceRegistration(
            self.agent_session, "app", b"app", hosts, True, guard, self.binding
        )
        self.registry.register(claim)

    async def ask(
        self, start: str, *fields: str, body: bytes = b"", client: str = "203.0.113.7"
    ) -> bytes:
        """Send a request; return the bytes that are written in answer at once."""
        lines = [
            f"{start} HTTP/1.1",
            "Host: app.example.com",
            f"X-Real-IP: {client}",
            *fields,
            "",
            "",
        ]
        self.connection.data_received("\r\n".join(lines).encode("latin-1") + body)
        return await self.hear()

    async def hear(self) -> bytes:
        self.pair.pump()
        return await self.transport.written()

    @property
    def agent(self) -> Owner:
        return self.pair.agent

    @property
    def opened(self) -> list[RequestOpen]:
        """The requests that reached the agent."""
        return [unpack_open(payload) for payload in self.agent.payloads.values()]

    @property
    def last(self) -> tuple[Stream, RecordingSink]:
        """The agent's stream of the last request, and its sink."""
        number = max(self.agent.sinks)
        return self.agent.session.streams[number], self.agent.sinks[number]

    async def answer(
        self, block: bytes, *, kind: int = 0, body: bytes | None = None, interim: bool = False
    ) -> bytes:
        """Answer the last request as its agent; return the bytes that the client gets."""
        stream, _ = self.last
        end = kind == 0 and not interim
        self.agent.session.send_head(
            stream,
            pack_head(kind, 0, len(body or b"") if kind == KIND_LENGTH else 0, block),
            end=end,
            interim=interim,
        )
        if body is not None:
            self.agent.session.send_data(stream, body, end=kind == 1)
        return await self.hear()

    async def answer_begun(self, block: bytes, *, kind: int, length: int, body: bytes) -> bytes:
        """Answer the last request with a head and a part of the body."""
        stream, _ = self.last
        self.agent.session.send_head(stream, pack_head(kind, 0, length, block), end=False)
        self.agent.session.send_data(stream, body, end=False)
        return await self.hear()

    async def settled(self) -> bytes:
        """Wait until all threads are done; return the bytes that the client gets."""
        async with asyncio.timeout(10):
            while self.tasks.running:
                await asyncio.sleep(0.005)
        return await self.hear()


def lose_link(proxy: ProxyFixture) -> None:
    """Break the link of the agent's session, which stays resumable."""
    for owner in (proxy.pair.server, proxy.pair.agent):
        proxy.pair.wires[owner].clear()
        owner.session.lost("cut", 0.0)
    proxy.registry.detached(proxy.agent_session)


async def restore_link(proxy: ProxyFixture) -> bytes:
    """Resume the agent's session on another link; return the bytes that the client gets then."""
    proxy.agent.session.redial(0.0)
    acceptor = Owner(dialer=False)
    acceptor.session.receive_data(proxy.agent.session.data_to_send(1 << 20), 0.0)
    assert acceptor.wanted is not None
    proxy.pair.server.session.reattach(acceptor.wanted, 0.0)
    proxy.registry.reattached(proxy.agent_session)
    await asyncio.sleep(0)
    return await proxy.hear()
