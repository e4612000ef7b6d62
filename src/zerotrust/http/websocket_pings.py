"""Pings of the server to the client of a quiet WebSocket.

They keep the connection in the tables of networks on the way, and show that the client is still
there. The backend does not see the Pongs: they are cut out of what the client sends. A Ping is sent
only while both directions rest between two frames, so no frame is touched.
"""

from enum import IntEnum
from typing import Final

from zerotrust.http.websocket_frames import header_size, payload_size, ping_frame
from zerotrust.http.websocket_meter import WebSocketMeter, unmasked

_PONG: Final = 0x8A
_NUMBER_BYTES: Final = 4
LOOKS: Final = 2
"""Looks for each interval of pings, and looks until an unanswered Ping means that the client is
gone. A Ping is sent after one quiet look, so no longer than the interval passes without a byte."""


class Quiet(IntEnum):
    """Result of a look at a WebSocket."""

    BUSY = 0
    """Bytes have moved since the last look, or no Ping can be sent now."""
    PING = 1
    """Send a Ping."""
    DEAD = 2
    """The client has neither answered the last Ping in time nor sent anything else."""


class ClientPings:
    """Decides when to send a Ping, and removes its Pong from the client's bytes.

    Args:
        prefix: random bytes that begin the payload of each Ping, so that no Pong of another one is
            taken for the answer.
    """

    __slots__ = (
        "_answered",
        "_asked_at",
        "_held",
        "_left",
        "_moved",
        "_number",
        "_prefix",
        "_removed",
        "_unanswered",
        "waiting",
    )

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._number = 0
        self._answered = 0
        self._moved = -1
        self._asked_at = 0
        self._unanswered = 0
        self._held = b""
        self._left = 0
        self._removed = 0
        self.waiting = False
        """The last Ping has no Pong yet, so the client's bytes have to pass `without_pong`."""

    @property
    def withheld(self) -> int:
        """Bytes of the client that were cut out or are held back."""
        return self._removed + len(self._held)

    def look(self, meter: WebSocketMeter, *, is_reading: bool = True) -> Quiet:
        """Look whether anything has moved since the last call, `LOOKS` times in each interval.

        Args:
            is_reading: False while the server takes nothing from the client, whose Pong may wait.
        """
        if not is_reading:
            self._unanswered = 0
            return Quiet.BUSY
        client, backend = meter.client, meter.backend
        if self.waiting and client.bytes == self._asked_at:
            self._unanswered += 1
            return Quiet.DEAD if self._unanswered >= LOOKS else Quiet.BUSY
        moved, self._moved = self._moved, client.bytes + backend.bytes - self._removed
        if (
            moved != self._moved
            or not (client.between and backend.between and client.sound and backend.sound)
            or client.closed
            or backend.closed
            or self._left
            or self._held
        ):
            return Quiet.BUSY
        return Quiet.PING

    def ping(self, meter: WebSocketMeter) -> bytes:
        """Return the Ping to send."""
        self._number += 1
        payload = self._prefix + self._number.to_bytes(_NUMBER_BYTES, "big")
        self._asked_at = meter.client.bytes
        self._unanswered = 0
        self.waiting = True
        meter.control.ping(payload, from_client=False)
        return ping_frame(payload)

    def without_pong(self, data: bytes) -> bytes:
        """Return the client's bytes without the Pongs; a frame that may be one is held back until
        it is complete.

        A client may answer only the last Ping, so its Pong answers those before it too (s5.5.3).
        """
        data, self._held = self._held + data, b""
        if self._left > len(data):
            self._left -= len(data)
            return data
        at, self._left = self._left, 0
        end = len(data)
        while at < end:
            size = header_size(data, at, end)
            if not size:
                break
            length = payload_size(data, at)
            if data[at] == _PONG and length == len(self._prefix) + _NUMBER_BYTES:
                if end - at < size + length:
                    break
                frame = data[at : at + size + length]
                number = self._number_in(frame, size)
                if self._answered < number <= self._number:
                    self._answered = number
                    self._removed += len(frame)
                    data = data[:at] + data[at + len(frame) :]
                    end -= len(frame)
                    self.waiting = number < self._number
                    if not self.waiting:
                        return data
                    continue
            at += size + length
        if at > end:
            self._left = at - end
            return data
        self._held = data[at:]
        return data[:at]

    def rest(self) -> bytes:
        """Return the bytes that are held back: the client has ended."""
        held, self._held = self._held, b""
        return held

    def _number_in(self, frame: bytes, size: int) -> int:
        """Return the number of the Ping that a Pong answers; 0 if it is none of ours."""
        payload = frame[size:]
        if size > 2:
            payload = unmasked(payload, frame[size - 4 : size])
        if not payload.startswith(self._prefix):
            return 0
        return int.from_bytes(payload[-_NUMBER_BYTES:], "big")
