"""A client's connection, the ingress and an agent's session, without a network."""

import asyncio
from typing import Any

from tests.support.agent_sessions import join
from tests.support.transport import FakeTransport
from tests.support.tunnel import Ear, Owner, Pair
from tests.unit.middleware.asking import SECRET
from zerotrust.model.server import ProxyApi
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.scheme import USUAL, OfferedSchemes
from zerotrust.server.agents.service_policy import compile_service_policy
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.server.proxy.pending_requests import PendingRequests
from zerotrust.server.proxy.verification_pool import VerificationPool
from zerotrust.tunnel.binary import RequestOpen, pack_head, unpack_open
from zerotrust.tunnel.codes import KIND_LENGTH
from zerotrust.tunnel.stream import Stream


def build_ingress(
    registry: Registry,
    *,
    tasks: Tasks | None = None,
    api: ProxyApi | None = None,
    https_port: int = 443,
    overload: LoadShedding | None = None,
) -> Ingress:
    """Return an ingress, wired as `zerotrust.server.app` does; without `api` no request waits
    for its agent."""
    api = api or ProxyApi(hold_timeout=0.0)
    pending = PendingRequests(registry, timeout=api.hold_timeout)
    registry.subscribe(pending.host_served)
    verifications = VerificationPool(tasks or Tasks())
    return Ingress(
        registry,
        api,
        pending=pending,
        verifications=verifications,
        https_port=https_port,
        overload=overload,
    )


class Front:
    """One client in front of `app.example.com`, which has this policy."""

    def __init__(
        self,
        policy: dict[str, Any],
        *,
        binding: OfferedSchemes = USUAL,
        overload: LoadShedding | None = None,
    ) -> None:
        self.binding = binding
        self.pair = Pair()
        self.pair.pump()
        self.tasks = Tasks()
        self.registry = Registry()
        self.agent_session = join(self.registry, "home", self.pair.server.session)
        self.register(policy)
        self.ingress = build_ingress(self.registry, tasks=self.tasks, overload=overload)
        self.connect()

    def connect(self) -> None:
        """A new connection of the client."""
        self.connection = HttpServerConnection(
            WriteCoalescer(asyncio.get_running_loop()), self.ingress, set()
        )
        self.transport = FakeTransport(self.connection.as_protocol())

    def register(self, policy: dict[str, Any] | None) -> None:
        before = self.registry.former_policy(self.agent_session, "app")
        guard = compile_service_policy(policy, secret=SECRET, before=before)
        claim = ServiceRegistration(
            self.agent_session, "app", b"app", ("app.example.com",), True, guard, self.binding
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
    def last(self) -> tuple[Stream, Ear]:
        """The stream of the last of them, as the agent has it."""
        number = max(self.agent.ears)
        return self.agent.session.streams[number], self.agent.ears[number]

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

    async def settled(self) -> bytes:
        """Wait until all threads are done; return the bytes that the client gets."""
        async with asyncio.timeout(10):
            while self.tasks.running:
                await asyncio.sleep(0.005)
        return await self.hear()


def lose_link(front: Front) -> None:
    """Break the link of the agent's session, which waits for another one."""
    for owner in (front.pair.server, front.pair.agent):
        front.pair.wires[owner].clear()
        owner.session.lost("cut", 0.0)
    front.registry.detached(front.agent_session)


async def restore_link(front: Front) -> bytes:
    """Resume the agent's session on another link; return what the client gets then."""
    front.agent.session.redial(0.0)
    acceptor = Owner(dialer=False)
    acceptor.session.receive_data(front.agent.session.data_to_send(1 << 20), 0.0)
    assert acceptor.wanted is not None
    front.pair.server.session.reattach(acceptor.wanted, 0.0)
    front.registry.reattached(front.agent_session)
    await asyncio.sleep(0)
    return await front.hear()
