"""Which requests may be given to another agent, when the one that they were given to has come to nothing with them.

A backend must never see a request twice that does more the second time. So one goes on only

* where no backend has any of it: the session ended before anything had left (`Session.unsent`), or its agent says so
  with the code of the reset (`UNTOUCHED`);
* where it may be seen twice, being idempotent and without a body (RFC 9110 s9.2.2), and its session has ended;

and only while nothing of an answer has come, and all that was given on of its body is still there (`Relay.kept`). A
request stands before the guard of each agent that it goes to. What has counted it once, such as a limit that two
sessions of one agent share, does not count it again.
"""

from typing import Final

from zerotrust.http.body import Kind
from zerotrust.http.head import IDEMPOTENT, RequestHead
from zerotrust.middleware.interface import Counted
from zerotrust.server.agents.registry import ServiceRegistration
from zerotrust.server.proxy.relay import Relay
from zerotrust.tunnel.codes import UNTOUCHED, Code
from zerotrust.tunnel.session import Session

MAX_TRIES: Final = 3
"""Agents, or sessions of one, that a request is given to: as many as upstreams by its agent."""

_OF_SESSION: Final = frozenset((Code.REFUSED, Code.GOING_AWAY))
"""What says nothing about the agent's other sessions."""


class RetryState:
    """What became of a request so far.

    Attributes:
        counted: what handlers that count have counted it, with what they said.
    """

    __slots__ = ("_agents", "_sessions", "_times", "counted")

    def __init__(self, counted: Counted | None = None) -> None:
        self._sessions: list[Session] = []
        self._agents: set[str] = set()
        self._times = 1
        self.counted: Counted = {} if counted is None else counted

    def __contains__(self, claim: object) -> bool:
        """It was there already, or with an agent that can't do anything else with it."""
        assert isinstance(claim, ServiceRegistration)
        return claim.session.agent in self._agents or claim.session.link.session in self._sessions

    def add(self, claim: ServiceRegistration, code: Code) -> None:
        """It was given to this one, which came to nothing with it."""
        self._sessions.append(claim.session.link.session)
        if code not in _OF_SESSION:
            self._agents.add(claim.session.agent)

    def once_more(self) -> bool:
        """It is to be given to somebody else; False where it has been to enough."""
        self._times += 1
        return self._times <= MAX_TRIES

    def forget(self) -> None:
        """Time has passed, and all may be asked again."""
        self._sessions.clear()
        self._agents.clear()


def may_go_on(relay: Relay, head: RequestHead, code: Code) -> bool:
    """Whether a request that was reset with this code, before anything of an answer, may be given to another agent."""
    if not relay.kept:
        return False
    if not relay.lost:
        return code in UNTOUCHED
    return relay.unsent or (head.method in IDEMPOTENT and relay.framing[0] is Kind.NONE)
