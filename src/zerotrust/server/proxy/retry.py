"""Retry rules: decides whether a failed request may be forwarded to another agent.

No backend may process a request twice, unless that changes nothing. So a request is forwarded again
only

* where no backend has received any part of it: the session ended before anything was written
  (`Session.unsent`), or the agent says so with the code of its reset (`UNTOUCHED`);
* where it is idempotent, has no body (RFC 9110 s9.2.2), and its session has ended;

and only while no part of an answer has arrived, and the part of its body that was sent can be sent
again (`Relay.replayable`). The policy of each agent decides about the request anew. Middleware that
has counted it, such as a rate limit that two sessions of one agent share, does not count it again.
"""

from enum import IntEnum
from typing import Final

from zerotrust.http.body import Kind
from zerotrust.http.head import IDEMPOTENT, RequestHead
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.tunnel.codes import UNTOUCHED, Code
from zerotrust.tunnel.session import Session

MAX_TRIES: Final = 3
"""Agents, or sessions of one, that a request is forwarded to."""

_OF_SESSION: Final = frozenset((Code.REFUSED, Code.GOING_AWAY))
"""Codes that say nothing about the agent's other sessions."""


class Delivery(IntEnum):
    """The part of a failed request that its agent may have got."""

    NOT_FORWARDED = 0
    """Nothing: the request failed before a stream was opened for it."""
    UNSENT = 1
    """Nothing: its stream was opened, and the session ended before the OPEN frame was written."""
    REPEATABLE = 2
    """Some or all of it, but another agent may get it, too."""
    FINAL = 3
    """More than another agent may get a second time."""


def delivery_of(
    head: RequestHead, framing: tuple[Kind, int], code: Code, *, session_closed: bool, unsent: bool
) -> Delivery:
    """Return what an agent may have got of a request whose stream was reset before any answer."""
    if unsent:
        return Delivery.UNSENT
    if not session_closed:
        return Delivery.REPEATABLE if code in UNTOUCHED else Delivery.FINAL
    may_repeat = head.method in IDEMPOTENT and framing[0] is Kind.NONE
    return Delivery.REPEATABLE if may_repeat else Delivery.FINAL


class RetryState:
    """The agents and sessions that have failed with a request, and the number of tries."""

    __slots__ = ("_agents", "_sessions", "_tries")

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self._agents: set[str] = set()
        self._tries = 1

    def __contains__(self, registration: object) -> bool:
        """Return True where this session, or all of this agent, has failed with the request."""
        assert isinstance(registration, ServiceRegistration)
        return (
            registration.session.agent in self._agents
            or registration.session.link.session in self._sessions
        )

    def exclude(self, registration: ServiceRegistration, code: Code) -> None:
        """Exclude a session that failed with `code`, and its agent where that is about both."""
        self._sessions.append(registration.session.link.session)
        if code not in _OF_SESSION:
            self._agents.add(registration.session.agent)

    def next_agent(
        self, registry: Registry, host: str, client: bytes
    ) -> ServiceRegistration | None:
        """Use up a try; return the agent to try, or None after MAX_TRIES or the last agent."""
        self._tries += 1
        return registry.another(host, client, self) if self._tries <= MAX_TRIES else None

    def forget_agents(self) -> None:
        """Forget which agents have failed, because time has passed; the tries stay counted."""
        self._sessions.clear()
        self._agents.clear()
