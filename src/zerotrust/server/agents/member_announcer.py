"""Tells agents of the servers that share the database of this one, to keep sessions with each."""

from collections.abc import Callable, Iterable
from typing import Final

from zerotrust.server.agents.session import AgentSession
from zerotrust.server.identity.membership import MemberServer
from zerotrust.tunnel.codes import MEMBERS
from zerotrust.tunnel.messages import MAX_MEMBERS, Member, Members

NO_MEMBERS: Final = Members(members=[])


class MemberAnnouncer:
    """Sends the members to each agent that understands them, and again when they change.

    Args:
        sessions: returns the sessions of all agents.

    Attributes:
        server_id: id of this server.
    """

    def __init__(self, server_id: str, sessions: Callable[[], Iterable[AgentSession]]) -> None:
        self.server_id = server_id
        self._sessions = sessions
        self._message = NO_MEMBERS

    def announce(self, members: Iterable[MemberServer]) -> None:
        """Tell all agents of these members from now on."""
        known = [Member(id=one.id, address=one.address) for one in members]
        self._message = Members(members=known[:MAX_MEMBERS])
        for session in self._sessions():
            self.tell(session)

    def tell(self, session: AgentSession) -> None:
        """Send the members in one session."""
        if MEMBERS in session.link.session.capabilities:
            session.link.session.send(self._message)
