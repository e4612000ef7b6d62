"""Byte stream in the binary messages of a WebSocket (RFC 6455). Sans-I/O, for both ends.

Frames have no meaning of their own: each end cuts its bytes as it likes, and proxies may cut them
anew. So bytes are passed on before their frame is complete, and no frame is buffered, except for
control frames, which are short.

The client masks with the key 0, which leaves the bytes as they are. Masking keeps a script that
chooses the payload from choosing the bytes on the wire, which a faulty proxy might take for a
request (s10.3). Here the payload is TLS: nobody chooses its bytes. Other keys are accepted.
"""

from typing import Final, final

from zerotrust.errors import RemoteProtocolError
from zerotrust.http.websocket_frames import header_size, payload_size

MAX_FRAME: Final = 1024 * 1024
"""Payload of the longest frame that is accepted. We send a quarter of it at most."""

NORMAL_CLOSURE: Final = 1000
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
TOO_BIG: Final = 1009
"""Close codes (RFC 6455 s7.4.1)."""

_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_MASKED: Final = 0x80
_NO_KEY: Final = bytes(4)
_MAX_CONTROL: Final = 125


@final
class WebSocketStream:
    """One end of the stream: frames in, bytes out, and the reverse.

    Args:
        client: this end has opened the WebSocket.

    Attributes:
        ended: the peer has closed the WebSocket, or has violated the protocol; further input is
            ignored.
    """

    __slots__ = ("_client", "_fragmented", "_incomplete", "_key", "_left", "_reply", "ended")

    def __init__(self, *, client: bool) -> None:
        self._client = client
        self._incomplete = b""
        self._left = 0
        self._key = _NO_KEY
        self._fragmented = False
        self._reply = b""
        self.ended = False

    def receive_data(self, data: bytes) -> list[bytes]:
        """Return the bytes of the stream in these bytes of the WebSocket, in pieces.

        Call `take_reply` afterwards.

        Raises:
            RemoteProtocolError: the peer has violated RFC 6455, or sent text.
        """
        pieces: list[bytes] = []
        if self._incomplete:
            data = self._incomplete + data
            self._incomplete = b""
        at, end = 0, len(data)
        while at < end and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                pieces.append(self._unmasked(piece))
                continue
            size = header_size(data, at, end)
            if not size:
                self._check(data[at])
                self._incomplete = data[at:]
                break
            opcode = self._check(data[at])
            length = payload_size(data, at)
            if bool(data[at + 1] & _MASKED) is self._client:
                raise self._violation("a client's frame without a mask, or a server's with one")
            key = data[at + size - 4 : at + size] if not self._client else _NO_KEY
            if opcode >= _CLOSE:
                if length > _MAX_CONTROL:
                    raise self._violation("a control frame that is too long")
                if at + size + length > end:
                    self._incomplete = data[at:]
                    break
                self._control(opcode, _unmask(data[at + size : at + size + length], key))
                at += length
            else:
                if length > MAX_FRAME:
                    raise self._violation(f"a frame of {length} bytes", TOO_BIG)
                self._left = length
                self._key = key
                self._fragmented = not data[at] & _FINAL
            at += size
        return pieces

    def take_reply(self) -> bytes:
        """Return the control frame to send now: an answer to a Ping or to a Close."""
        reply, self._reply = self._reply, b""
        return reply

    def header(self, length: int) -> bytes:
        """Return the header of a binary frame with so many bytes of the stream."""
        return self._header(_FINAL | _BINARY, length)

    def close(self, code: int = NORMAL_CLOSURE) -> bytes:
        """Return a Close frame."""
        return self._header(_FINAL | _CLOSE, 2) + code.to_bytes(2, "big")

    def _check(self, first: int) -> int:
        """Return the opcode of a frame by its first byte."""
        opcode = first & 0xF
        if first & _RESERVED:
            raise self._violation("a frame with an extension that was not agreed")
        if opcode >= _CLOSE:
            if opcode > _PONG or not first & _FINAL:
                raise self._violation("an invalid control frame")
        elif opcode == _TEXT:
            raise self._violation("a text message", UNSUPPORTED_DATA)
        elif opcode != (_CONTINUATION if self._fragmented else _BINARY):
            raise self._violation("an unexpected frame")
        return opcode

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            # The last Ping of several is enough to answer (s5.5.3).
            self._reply = self._header(_FINAL | _PONG, len(payload)) + payload
        elif opcode == _CLOSE:
            self.ended = True
            code = payload[:2] if len(payload) > 1 else b""
            self._reply = self._header(_FINAL | _CLOSE, len(code)) + code

    def _header(self, first: int, length: int) -> bytes:
        mask = _MASKED if self._client else 0
        if length <= 125:
            header = bytes((first, mask | length))
        elif length <= 0xFFFF:
            header = bytes((first, mask | 126)) + length.to_bytes(2, "big")
        else:
            header = bytes((first, mask | 127)) + length.to_bytes(8, "big")
        return header + _NO_KEY if self._client else header

    def _unmasked(self, piece: bytes) -> bytes:
        key = self._key
        if key == _NO_KEY:
            return piece
        # The rest of the frame begins in the middle of the key.
        turn = len(piece) % 4
        self._key = key[turn:] + key[:turn]
        return _unmask(piece, key)

    def _violation(self, what: str, code: int = PROTOCOL_ERROR) -> RemoteProtocolError:
        self.ended = True
        self._reply = self.close(code)
        return RemoteProtocolError(f"the WebSocket's peer sent {what}")


def _unmask(data: bytes, key: bytes) -> bytes:
    if key == _NO_KEY:
        return data
    size = len(data)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(
        size, "little"
    )
