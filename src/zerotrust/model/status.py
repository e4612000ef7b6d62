"""Status of an agent: the answer of `0trust agent status`."""

from typing import Literal

from zerotrust.model.base import Model


class UpstreamStatus(Model):
    """State of an upstream.

    `state` is `healthy`, `unhealthy` (health checks fail), `ejected` (requests failed, so it is
    left out for a while) or `unchecked`. `requests` is the number of active requests. A single
    upstream without health check and limits has no count, because every request goes to it.
    """

    address: str
    state: Literal["healthy", "unhealthy", "ejected", "unchecked"]
    requests: int | None = None


class ServiceStatus(Model):
    """State of a service. Names are those in the agent's file.

    A service with `redirect_to` has no upstreams. `refused` lists host names that the server does
    not serve, each with the reason.
    """

    id: str
    hosts: list[str]
    upstreams: list[UpstreamStatus]
    redirect_to: str | None = None
    refused: dict[str, str] = {}


class SessionStatus(Model):
    """State of a session with the server. `streams` is the number of requests and WebSockets.

    `transport` is `websocket` where the session goes through the server's web server.
    A session that is not `connected` has lost its connection and is being resumed.
    """

    id: str
    server: str
    streams: int
    connected: bool = True
    transport: Literal["direct", "websocket"] = "direct"


class MemberStatus(Model):
    """Connections to a server that the agent has learned of. `problem` is empty while connected."""

    address: str
    connected: bool
    problem: str = ""


class AgentStatus(Model):
    """State of an agent. Without a session, no service is reachable.

    `members` are the servers that the agent's server has told it of, besides those in its file.

    `proxy` is the proxy to the server and the setting that names it; empty without a proxy.
    `problem` is the reason why an agent without a session is not connected.
    """

    agent: str
    software: str
    proxy: str = ""
    problem: str = ""
    sessions: list[SessionStatus]
    services: list[ServiceStatus]
    members: list[MemberStatus] = []
