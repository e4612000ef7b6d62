"""What sessions hold in memory, for those who bound it: summed over the sessions of an agent, or over all."""

from collections.abc import Iterable

from zerotrust.tunnel.session import Session


class SessionStats:
    """What some sessions hold together.

    Attributes:
        sessions: how many they are; `detached`: how many of them wait for another link.
        streams: requests and WebSockets that are under way.
        received: bytes that arrived and have not been handed on.
        queued: bytes of bodies that wait to be sent.
        unwritten: bytes of other frames that wait to be sent.
        kept: bytes that were sent and are kept to be sent again.
        policies: bytes that the policies of their services take, where the caller counts them.
        most: bytes of the session that holds most.
        stalled: how many sessions send no more bodies, because what they keep is as much as they may.
    """

    def __init__(self) -> None:
        self.sessions = 0
        self.detached = 0
        self.streams = 0
        self.received = 0
        self.queued = 0
        self.unwritten = 0
        self.kept = 0
        self.policies = 0
        self.most = 0
        self.stalled = 0

    @property
    def bytes(self) -> int:
        """All that they hold."""
        return self.received + self.queued + self.unwritten + self.kept + self.policies

    def add(self, session: Session) -> None:
        """Count one session more."""
        kept, unwritten = session.kept, session.unwritten
        self.sessions += 1
        self.streams += len(session.streams)
        self.received += session.held
        self.queued += session.queued
        self.unwritten += unwritten
        self.kept += kept
        self.most = max(self.most, session.held + session.queued + unwritten + kept)
        if not session.attached:
            self.detached += 1
        if session.stalled:
            self.stalled += 1

    def include(self, other: "SessionStats") -> None:
        """Count what is counted there, too."""
        self.sessions += other.sessions
        self.detached += other.detached
        self.streams += other.streams
        self.received += other.received
        self.queued += other.queued
        self.unwritten += other.unwritten
        self.kept += other.kept
        self.policies += other.policies
        self.most = max(self.most, other.most)
        self.stalled += other.stalled


class StallCounter:
    """How often sessions have stood still (`Session.stalls`), also those that are over.

    Attributes:
        total: so often until the last `note`; what a session adds between that and its end is lost.
    """

    def __init__(self) -> None:
        self.total = 0
        self._before: dict[Session, int] = {}

    def note(self, sessions: Iterable[Session]) -> None:
        """Look at the sessions that there are."""
        before = self._before
        self._before = {session: session.stalls for session in sessions}
        self.total += sum(stalls - before.get(session, 0) for session, stalls in self._before.items())
