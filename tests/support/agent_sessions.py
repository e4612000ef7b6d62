"""Agent sessions in a registry, without a connection."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

from zerotrust.net.tasks import Tasks
from zerotrust.net.tunnel import TunnelLink
from zerotrust.pki.identity import Identity
from zerotrust.server.agents.cpu_budget import CpuBudget
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session import AgentSession, RegistrationHandler
from zerotrust.tunnel.messages import Hello
from zerotrust.tunnel.window import DEFAULT_WINDOW


def join(
    registry: Registry,
    agent: str,
    tunnel: object,
    *,
    instance: str | None = None,
    connection: int = 0,
    by_websocket: bool = False,
) -> AgentSession:
    """Add a session of an agent to the registry.

    Args:
        tunnel: stands for its tunnel session.
    """
    link = SimpleNamespace(
        session=tunnel,
        doubtful=False,
        by_websocket=by_websocket,
        peer=lambda: ("203.0.113.7", 4711),
    )
    session = AgentSession(
        cast("TunnelLink", link),
        Identity(agent_id=agent, serial="1a", not_after=datetime(2100, 1, 1, tzinfo=UTC)),
        Hello(
            versions=[1],
            software="0trust/1",
            window=DEFAULT_WINDOW,
            max_streams=100,
            instance=instance,
            connection=connection,
        ),
        registry=registry,
        registrar=cast("RegistrationHandler", SimpleNamespace(cpu_budget=CpuBudget())),
        tasks=Tasks(),
    )
    registry.add(session)
    return session
