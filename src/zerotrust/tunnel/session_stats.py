"""Memory that sessions take: summed over the sessions of an agent, or over all."""

from collections.abc import Iterable

from zerotrust.tunnel.session import Session


class SessionStats:
    """Sums over some sessions.

    Attributes:
        sessions: number of sessions; `detached`: of these, the ones that wait for another link.
        streams: requests and WebSockets in progress.
        unconsumed: bytes that were received and not handed on.
        queued: bytes of bodies that wait to be sent.
        unwritten: bytes of other frames that wait to be sent.
        unacknowledged: bytes that were sent and not acknowledged.
        policies: bytes that the policies of their services take, if the caller counts them.
        most: bytes of the session that takes most.
        stalled: sessions that send no more bodies until the peer acknowledges what they have sent.
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
        """Memory of all sessions."""
        return self.unconsumed + self.queued + self.unwritten + self.unacknowledged + self.policies

    def add(self, session: Session) -> None:
        """Add a session."""
        outbox, unacknowledged = session.outbox, session.unacknowledged
        self.sessions += 1
        self.streams += len(session.streams)
        self.unconsumed += session.unconsumed
        self.queued += outbox.queued
        self.unwritten += outbox.unwritten
        self.unacknowledged += unacknowledged
        self.most = max(
            self.most, session.unconsumed + outbox.queued + outbox.unwritten + unacknowledged
        )
        if not session.attached:
            self.detached += 1
        if not outbox.has_room:
            self.stalled += 1

    def include(self, other: "SessionStats") -> None:
        """Add the sums of other sessions."""
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
    """Number of stalls (`Outbox.stalls`) of all sessions, including those that have ended.

    Attributes:
        total: number of stalls at the last `note`; later stalls of a session that ends are lost.
    """

    def __init__(self) -> None:
        self.total = 0
        self._before: dict[Session, int] = {}

    def note(self, sessions: Iterable[Session]) -> None:
        """Take the numbers of the current sessions."""
        before = self._before
        self._before = {session: session.outbox.stalls for session in sessions}
        self.total += sum(
            stalls - before.get(session, 0) for session, stalls in self._before.items()
        )
