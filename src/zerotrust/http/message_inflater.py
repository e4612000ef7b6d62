"""Inflater of the messages of one direction (permessage-deflate, RFC 7692), within bounds.

With context takeover (s7.1.1), a message can refer to the bytes of those before it. So each of them
has to be inflated, and from a message on that is missing or too large, no other can be.
"""

import zlib
from typing import Final

from zerotrust.http.message_reader import KEPT_BYTES, WebSocketMessage
from zerotrust.limits.gcra import Pace

STEP_BYTES: Final = 4 * 1024
"""Inflated bytes at a time: they are at most a thousand times as many as the compressed ones."""
RATE: Final = 1024 * 1024
"""Inflated bytes per second, and at once."""

_TAIL: Final = b"\x00\x00\xff\xff"
"""End of the deflate block, which senders leave out (s7.2.1)."""
_EXTENSION: Final = "permessage-deflate"


class MessageInflater:
    """Inflates messages one after another, as far as that is possible.

    Args:
        extensions: as the backend has chosen them.
        from_client: the direction.
        is_first: no compressed message came before those that are inflated here.
        pace: allows the inflated bytes.
    """

    __slots__ = ("_inflater", "_keeps_context", "_pace", "usable")

    def __init__(self, extensions: str, pace: Pace, *, from_client: bool, is_first: bool) -> None:
        name, *parameters = (part.strip().lower() for part in extensions.split(";"))
        end = "client" if from_client else "server"
        self._keeps_context = f"{end}_no_context_takeover" not in parameters
        self._pace = pace
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        # Where there is another extension, too, the compressed bytes may be in its form.
        self.usable = (
            name == _EXTENSION and "," not in extensions and (is_first or not self._keeps_context)
        )
        """Further messages can be inflated."""

    def lose(self) -> None:
        """Note that a message is missing."""
        if self._keeps_context:
            self.usable = False

    def inflate(self, message: WebSocketMessage, now: float) -> WebSocketMessage:
        """Return a compressed message with the first inflated bytes, and no longer as compressed;
        as compressed and without bytes if that is impossible."""
        payload = b""
        if self.usable:
            inflated = None if message.cut else self._inflate(message.payload, now)
            if inflated is not None:
                payload, cut = inflated[:KEPT_BYTES], len(inflated) > KEPT_BYTES
                return message._replace(payload=payload, compressed=False, cut=cut)
            self.lose()
        return message._replace(payload=payload, cut=message.size > 0)

    def _inflate(self, data: bytes, now: float) -> bytes | None:
        """Return at least the first bytes that are kept, and one more; None if that fails."""
        if not self._keeps_context:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflater, begin, data = self._inflater, b"", data + _TAIL
        while data:
            try:
                piece = inflater.decompress(data, STEP_BYTES)
            except zlib.error:
                return None
            if not self._pace.take(len(piece), now):
                return None
            if len(begin) <= KEPT_BYTES:
                begin += piece
                if len(begin) > KEPT_BYTES and not self._keeps_context:
                    break
            data = inflater.unconsumed_tail
        if inflater.eof:
            # The last block of a deflate stream, which hardly any sender sends (s7.2.3.4).
            self.lose()
        return begin
