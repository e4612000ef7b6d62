"""A WebSocket through a server, without a network."""

from dataclasses import replace
from typing import Any

from tests.unit.server.proxy_fixture import ProxyFixture
from zerotrust.server.agents.service_policy import WebSocketSettings
from zerotrust.server.proxy.relay import Relay
from zerotrust.tunnel.codes import KIND_TUNNEL

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"


async def websocket(
    sent: bytes = b"",
    *,
    protocol: str = "websocket",
    policy: dict[str, Any] | None = None,
    ping: float = 0.0,
    lines: bytes = b"",
) -> ProxyFixture:
    """Return a WebSocket through which the backend has sent these bytes.

    Args:
        ping: seconds between pings to a quiet client; less than a policy may say.
        lines: further header lines of its 101.
    """
    proxy = ProxyFixture(policy or ({"websocket_limits": {"ping": 30}} if ping else {}))
    if ping:
        (registration,) = proxy.registry.by_host["app.example.com"]
        assert registration.policy is not None
        settings = WebSocketSettings(None, ping)
        registration.policy = replace(registration.policy, websocket=settings)
    proxy.observe()
    await proxy.ask("GET /", "Connection: Upgrade", f"Upgrade: {protocol}")
    switched = SWITCHED.replace(b"websocket", protocol.encode()) + lines
    await proxy.answer(switched, kind=KIND_TUNNEL)
    proxy.agent.session.send_data(proxy.last[0], sent)
    assert await proxy.hear() == sent
    return proxy


def relay_of(proxy: ProxyFixture) -> Relay:
    """Return the relay of its only request."""
    (stream,) = proxy.pair.server.session.streams.values()
    assert isinstance(stream.sink, Relay)
    return stream.sink
