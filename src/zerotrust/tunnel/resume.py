"""Resumption: what a session needs to outlive its link (docs/spec/tunnel-v1.md, section 7).

Both ends number the counted frames of each direction by their order. Each end keeps what it has
sent until the peer acknowledges it. After a broken link it sends again from the first frame that
the peer has not received. It keeps each write as one object, so it copies nothing meanwhile.
"""

import math
from collections import deque
from hmac import compare_digest
from typing import Final, final

from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.codes import COUNTED, FrameType
from zerotrust.tunnel.frames import HEADER_BYTES, encode, read_header
from zerotrust.tunnel.messages import Resume, Welcome

REPLAY_BYTES: Final = 8 * 1024 * 1024
"""Unacknowledged bytes above which no DATA is sent: the largest window of one stream."""
MOST_REPLAYS: Final = 4
"""Times REPLAY_BYTES: the limit for all frames, which no correct peer leaves unacknowledged."""
_WRITE_OVERHEAD: Final = 128
"""Memory in bytes that a write takes besides its content."""
ACK_FRAMES: Final = 64
ACK_BYTES: Final = 256 * 1024


@final
class Resumption:
    """Progress of both directions of a session, and its wait for another link.

    Args:
        secret: the dialer shows it to get the session back.
        timeout: seconds for which the session waits for another link.
        budget: unacknowledged bytes above which no DATA is sent.

    Attributes:
        received: number of counted frames that have arrived.
        sent: number of counted frames that were sent.
        acknowledged: number of these that the peer has received.
        unacknowledged: memory of the writes that the peer has not acknowledged, in bytes.
        attempt: number of the dialer's last request for another link.
        expires_at: time at which the session ends if it has no link until then.
    """

    __slots__ = (
        "_budget",
        "_secret",
        "_told",
        "_untold_bytes",
        "_writes",
        "acknowledged",
        "attempt",
        "expires_at",
        "received",
        "sent",
        "timeout",
        "unacknowledged",
    )

    def __init__(
        self, *, secret: str = "", timeout: float = 0.0, budget: int = REPLAY_BYTES
    ) -> None:
        self.received = 0
        self.sent = 0
        self.acknowledged = 0
        self.unacknowledged = 0
        self.timeout = timeout
        self.expires_at = math.inf
        self._secret = secret
        self.attempt = 0
        self._budget = budget
        self._writes: deque[tuple[int, bytes]] = deque()
        self._told = 0
        self._untold_bytes = 0

    # ---- what was sent

    @property
    def left(self) -> int:
        """Bytes that may still be sent without an acknowledgement; no DATA is sent at 0 or less."""
        return self._budget - self.unacknowledged

    @property
    def hopeless(self) -> bool:
        """The peer does not acknowledge anything."""
        return self.unacknowledged >= MOST_REPLAYS * self._budget

    def record(self, written: bytes, count: int) -> None:
        """Keep a write until it is acknowledged: whole frames, `count` of them counted."""
        self.sent += count
        self.unacknowledged += len(written) + _WRITE_OVERHEAD
        self._writes.append((self.sent, written))

    def acknowledge(self, count: int) -> None:
        """The peer has received the first `count` frames.

        Raises:
            RemoteProtocolError: fewer frames were sent.
        """
        if count > self.sent:
            raise RemoteProtocolError(f"{count} frames acknowledged, {self.sent} were sent")
        writes = self._writes
        while writes and writes[0][0] <= count:
            self.unacknowledged -= len(writes.popleft()[1]) + _WRITE_OVERHEAD
        self.acknowledged = max(self.acknowledged, count)

    def replay(self) -> bytes:
        """Return all counted frames that were not acknowledged, as they were sent."""
        number = self.acknowledged
        pieces: list[bytes] = []
        for last, written in self._writes:
            frames = _counted(written)
            first = last - len(frames) + 1
            pieces += frames[max(0, number + 1 - first) :]
        return b"".join(pieces)

    # ---- what has arrived

    @property
    def untold(self) -> int:
        """Number of frames that arrived since the last acknowledgement."""
        return self.received - self._told

    def arrived(self, count: int, size: int) -> bool:
        """Count frames and the bytes that brought them; True if it is time to acknowledge them."""
        self.received += count
        self._untold_bytes += size
        return self.received - self._told >= ACK_FRAMES or self._untold_bytes >= ACK_BYTES

    def acknowledgement(self) -> bytes:
        """Return the frame that tells the peer how many frames have arrived."""
        self.tell()
        return encode(FrameType.ACK, 0, 0, self.received.to_bytes(8, "big"))

    def tell(self) -> None:
        """Note that the peer is being told how many frames have arrived."""
        self._told = self.received
        self._untold_bytes = 0

    # ---- from one link to the next

    def detach(self, now: float) -> None:
        """Begin to wait for another link."""
        self.expires_at = now + self.timeout

    def attach(self, received: int) -> bytes:
        """Continue on another link, and return the frames that the peer has not received.

        Raises:
            RemoteProtocolError: the peer claims to have received more than was sent.
        """
        self.acknowledge(received)
        self.tell()
        self.expires_at = math.inf
        return self.replay()

    def request(self, session_id: str) -> Resume:
        """Return the request for the session on a new connection (dialers)."""
        self.attempt += 1
        return Resume(
            session=session_id, secret=self._secret, received=self.received, attempt=self.attempt
        )

    def check_answer(self, peer: Welcome, session_id: str) -> None:
        """Check the acceptor's answer to the request.

        Raises:
            RemoteProtocolError: it is about another session, or fewer frames than before.
        """
        if not peer.resumed or peer.session != session_id:
            raise RemoteProtocolError("WELCOME of another session")
        if peer.received < self.acknowledged:
            raise RemoteProtocolError(
                f"{peer.received} frames received, {self.acknowledged} were before"
            )

    def refusal(self, wanted: Resume) -> str | None:
        """Return the reason why a dialer may not resume the session; None if it may (acceptors)."""
        if not compare_digest(wanted.secret, self._secret):
            return "no such session"
        if wanted.attempt <= self.attempt:
            return "a later connection has asked already"
        if not self.acknowledged <= wanted.received <= self.sent:
            return f"{wanted.received} frames received, which cannot be"
        return None

    def grant(self, wanted: Resume) -> None:
        """Note the accepted request: an earlier attempt of the dialer is refused from now on."""
        self.attempt = wanted.attempt


def read_count(payload: bytes) -> int:
    """Return the number in an ACK.

    Raises:
        RemoteProtocolError: the payload is not a number of 8 bytes.
    """
    if len(payload) != 8:
        raise RemoteProtocolError("ACK needs 8 bytes")
    return int.from_bytes(payload, "big")


def _counted(written: bytes) -> list[bytes]:
    """Return the counted frames of a write."""
    frames: list[bytes] = []
    at = 0
    while at < len(written):
        kind, _, length, _ = read_header(written, at)
        after = at + HEADER_BYTES + length
        if kind >= COUNTED:
            frames.append(written[at:after])
        at = after
    return frames
