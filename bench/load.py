"""A load generator, run as its own process: `python -m bench.load get|echo HOST PORT NAME CONNECTIONS SECONDS BYTES`.

Prints one JSON object: operations per second and the latency's 50th and 99th percentile in milliseconds.
"""

import asyncio
import json
import os
import socket
import ssl
import sys
import time

import picows
import uvloop


class Getter(asyncio.Protocol):
    """Asks again as soon as it has the whole answer."""

    def __init__(self, request: bytes, body: int, taken: list[float]) -> None:
        self.request, self.body, self.taken = request, body, taken
        self.left = 0
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.since = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.left:
            head, end, rest = data.partition(b"\r\n\r\n")
            assert end and head.startswith(b"HTTP/1.1 200"), data[:200]
            self.left = self.body - len(rest)
        else:
            self.left -= len(data)
        if self.left == 0:
            self.taken.append(time.perf_counter() - self.since)
            self.ask()


class Echo(picows.WSListener):
    """Sends again as soon as its message is back."""

    def __init__(self, payload: bytes, taken: list[float]) -> None:
        self.payload, self.taken = payload, taken

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.send(transport)

    def send(self, transport: picows.WSTransport) -> None:
        self.since = time.perf_counter()
        transport.send(picows.WSMsgType.BINARY, self.payload)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        assert len(frame.get_payload_as_memoryview()) == len(self.payload)
        self.taken.append(time.perf_counter() - self.since)
        self.send(transport)


async def measure(what: str, address: tuple[str, int], name: str, connections: int, seconds: float, size: int) -> None:
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    trust.set_alpn_protocols(["http/1.1"])
    taken: list[float] = []
    loop = asyncio.get_running_loop()
    if what == "get":
        request = f"GET /1k HTTP/1.1\r\nHost: {name}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n".encode()
        for _ in range(connections):
            await loop.create_connection(
                lambda: Getter(request, size, taken), *address, ssl=trust, server_hostname=name
            )
    else:
        for _ in range(connections):
            await picows.ws_connect(
                lambda: Echo(b"m" * size, taken),
                f"wss://{name}:{address[1]}/",
                ssl_context=trust,
                socket_factory=lambda _: asyncio.to_thread(_connect, address),
                server_hostname=name,
            )
    await asyncio.sleep(0.5)
    taken.clear()
    begun = time.perf_counter()
    await asyncio.sleep(seconds)
    done = sorted(taken)
    rate = len(done) / (time.perf_counter() - begun)
    print(json.dumps({"rate": rate, "p50": done[len(done) // 2] * 1e3, "p99": done[len(done) * 99 // 100] * 1e3}))


def _connect(address: tuple[str, int]) -> socket.socket:
    raw = socket.create_connection(address)
    raw.setblocking(False)
    return raw


if __name__ == "__main__":
    _, what, host, port, name, connections, seconds, size = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(what, (host, int(port)), name, int(connections), float(seconds), int(size)))
        sys.stdout.flush()
        os._exit(0)
