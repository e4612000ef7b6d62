"""What an agent says of itself: the answer of `0trust agent status`."""

from typing import Literal

from zerotrust.model.base import Model


class UpstreamStatus(Model):
    """A backend: `healthy`, `unhealthy` (its checks fail), `ejected` (its requests failed for a while) or `unchecked`.

    `requests` run there now. The only backend of a service without checks and limits is used whatever happens: nothing
    is counted there.
    """

    address: str
    state: Literal["healthy", "unhealthy", "ejected", "unchecked"]
    requests: int | None = None


class ServiceStatus(Model):
    """A service, in the words of the agent's file."""

    id: str
    hosts: list[str]
    upstreams: list[UpstreamStatus]


class SessionStatus(Model):
    """A session with the server; `streams` are requests and WebSockets.

    One that is not `connected` has lost its connection and waits for another one.
    """

    id: str
    server: str
    streams: int
    connected: bool = True


class AgentStatus(Model):
    """An agent. Without a session none of its services can be reached."""

    agent: str
    software: str
    sessions: list[SessionStatus]
    services: list[ServiceStatus]
