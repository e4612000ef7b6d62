"""A client that half-closes after its request: over TCP (FIN) or TLS (close_notify).

asyncio cannot half-close TLS, so this is a blocking socket with OpenSSL's memory buffers, run in
a thread.
"""

import asyncio
import contextlib
import socket
import ssl

from tests.support.entrypoint import Entrypoint


async def say_and_listen(
    entrypoint: Entrypoint, host: str, said: bytes, after_answer: bytes
) -> bytes:
    """Send `said`, wait for an answer, send `after_answer`, half-close, read to the end."""
    return await asyncio.to_thread(_say_and_listen, entrypoint, host, said, after_answer)


def _say_and_listen(entrypoint: Entrypoint, host: str, said: bytes, after_answer: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", entrypoint.port), timeout=15) as raw:
        line = _Tls(raw, entrypoint.tls, host) if entrypoint.tls else _Plain(raw)
        line.send(said)
        heard = line.recv()
        line.send(after_answer)
        line.end()
        while piece := line.recv():
            heard += piece
    return heard


class _Plain:
    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw

    def send(self, data: bytes) -> None:
        self._raw.sendall(data)

    def recv(self) -> bytes:
        return self._raw.recv(65536)

    def end(self) -> None:
        self._raw.shutdown(socket.SHUT_WR)


class _Tls:
    def __init__(self, raw: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._in.write(self._raw.recv(65536))
        self._flush()

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def recv(self) -> bytes:
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                got = self._raw.recv(65536)
                if not got:
                    return b""
                self._in.write(got)
            except ssl.SSLZeroReturnError:
                return b""

    def end(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()  # sends close_notify; that of the other side comes later
        self._flush()
        self._raw.shutdown(socket.SHUT_WR)

    def _flush(self) -> None:
        if data := self._out.read():
            self._raw.sendall(data)
