"""Worker that an agent asks for in the first message of TLS, before any process has answered.

A ClientHello (RFC 8446 s4.1.2) lists names of protocols (ALPN, RFC 7301); one of them may ask for a
worker of the server (docs/spec/tunnel-v1.md, section 13). It only chooses the process that answers
the handshake, so a message that is not valid leads to the first one, which refuses it.
"""

from typing import Final

from zerotrust.tunnel.codes import WORKER_ALPN

HEADER_BYTES: Final = 5
MAX_RECORD_BYTES: Final = 16384

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_ALPN: Final = 16
_VERSION_AND_RANDOM: Final = 34
_PREFIX: Final = WORKER_ALPN.encode()
_MAX_DIGITS: Final = 2


def record_bytes(header: bytes) -> int:
    """Return the size of the first TLS record with its header.

    Args:
        header: the first HEADER_BYTES of a connection.

    Returns:
        0 if a ClientHello does not begin like this.
    """
    size = int.from_bytes(header[3:5], "big")
    if header[0] != _HANDSHAKE or header[1] != 3 or size > MAX_RECORD_BYTES:
        return 0
    return HEADER_BYTES + size


def wanted_worker(record: bytes) -> int:
    """Return the number of the worker that a ClientHello asks for; 0 if it asks for none."""
    try:
        names = _alpn_names(_Vectors(record[HEADER_BYTES:]))
    except ValueError:
        return 0
    for name in names:
        digits = name.removeprefix(_PREFIX)
        if digits != name and digits.isdigit() and len(digits) <= _MAX_DIGITS:
            return int(digits)
    return 0


class _Vectors:
    """Reader of TLS's variable-length vectors (RFC 8446 s3.4)."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        """Return the next bytes.

        Raises:
            ValueError: there are fewer.
        """
        if len(self.data) < size:
            raise ValueError("cut short")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, size: int) -> int:
        """Return the next number, which has `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Return the next vector, whose length has `size` bytes."""
        return self.take(self.number(size))


def _alpn_names(message: _Vectors) -> list[bytes]:
    """Return the names of protocols in a handshake message.

    Raises:
        ValueError: it is no ClientHello, or cut short.
    """
    if message.number(1) != _CLIENT_HELLO:
        raise ValueError("another message")
    hello = _Vectors(message.vector(3))
    hello.take(_VERSION_AND_RANDOM)
    for length_bytes in (1, 2, 1):  # session id, cipher suites, compression methods
        hello.vector(length_bytes)
    extensions = _Vectors(hello.vector(2))
    while extensions.data:
        kind, content = extensions.number(2), _Vectors(extensions.vector(2))
        if kind == _ALPN:
            listed = _Vectors(content.vector(2))
            names = []
            while listed.data:
                names.append(listed.vector(1))
            return names
    return []
