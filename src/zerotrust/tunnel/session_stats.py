"""What sessions hold in memory, for those who bound it: summed over the sessions of an agent, or over all."""

from collections.abc import Iterable

from zerotrust.tunnel.session import Session


class SessionStats:
    """What some sessions hold together.

    Attributes:
        sessions: how many they are; `detached`: how many of them wait for another link.
        streams: requests and WebSockets that are under way.
        unconsumed: bytes that arrived and have not been handed on.
        queued: bytes of bodies that wait to be sent.
        unwritten: bytes of other frames that wait to be sent.
        unacknowledged: bytes that were sent and are unacknowledged to be sent again.
        policies: bytes that the policies of their services take, where the caller counts them.
        most: bytes of the session that holds most.
        stalled: how many sessions send no more bodies, because what they keep is as much as they may.
    """

    def __init__(self) -> None:
        self.sessions = 0
        self.detached = 0
        self.streams = 0
        self.unconsumed = 0
        self.queued = 0
        self.unwritten = 0
        self.unacknowledged = 0
        self.policies = 0
        self.most = 0
        self.stalled = 0

    @property
    def bytes(self) -> int:
        """All that they hold."""
        return self.unconsumed + self.queued + self.unwritten + self.unacknowledged + self.policies

    def add(self, session: Session) -> None:
        """Count one session more."""
        outbox, unacknowledged = session.outbox, session.unacknowledged
        self.sessions += 1
        self.streams += len(session.streams)
        self.unconsumed += session.unconsumed
        self.queued += outbox.queued
        self.unwritten += outbox.unwritten
        self.unacknowledged += unacknowledged
        self.most = max(self.most, session.unconsumed + outbox.queued + outbox.unwritten + unacknowledged)
        if not session.attached:
            self.detached += 1
        if not outbox.has_room:
            self.stalled += 1

    def include(self, other: "SessionStats") -> None:
        """Count what is counted there, too."""
        self.sessions += other.sessions
        self.detached += other.detached
        self.streams += other.streams
        self.unconsumed += other.unconsumed
        self.queued += other.queued
        self.unwritten += other.unwritten
        self.unacknowledged += other.unacknowledged
        self.policies += other.policies
        self.most = max(self.most, other.most)
        self.stalled += other.stalled


class StallCounter:
    """How often sessions have stood still (`Outbox.stalls`), also those that are over.

    Attributes:
        total: so often until the last `note`; what a session adds between that and its end is lost.
    """

    def __init__(self) -> None:
        self.total = 0
        self._before: dict[Session, int] = {}

    def note(self, sessions: Iterable[Session]) -> None:
        """Look at the sessions that there are."""
        before = self._before
        self._before = {session: session.outbox.stalls for session in sessions}
        self.total += sum(stalls - before.get(session, 0) for session, stalls in self._before.items())
