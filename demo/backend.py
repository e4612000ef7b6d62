"""The private service of the demo: one page and its WebSockets.

GET /           the page; with an Upgrade (as `curl` sends in README.md), 101 and then as /live
GET /healthz    "ok"
WebSocket /live {"samples": [{"t", "value", "load"}]} ten times a second; the first message has the
                last half minute
WebSocket /echo sends each message back
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections import deque
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("page.html")
INTERVAL = 0.1
HISTORY = 300
SOCKETS = ("/", "/live", "/echo")


class Feed:
    """The samples of the last half minute. A slow reader skips samples."""

    def __init__(self) -> None:
        self.samples: deque[dict[str, float]] = deque(maxlen=HISTORY)
        self._fresh = asyncio.Event()

    async def run(self) -> None:
        """Add samples for ever: a smooth random walk between 0 and 100, and this process's CPU
        use."""
        value, speed = 50.0, 0.0
        wall, cpu = time.monotonic(), time.process_time()
        while True:
            await asyncio.sleep(INTERVAL)
            speed = 0.92 * speed + random.gauss(0, 0.6) - 0.004 * (value - 50)
            value = min(98.0, max(2.0, value + speed))
            wall_before, wall = wall, time.monotonic()
            cpu_before, cpu = cpu, time.process_time()
            load = 100 * (cpu - cpu_before) / (wall - wall_before)
            self.samples.append(
                {"t": time.time(), "value": round(value, 2), "load": round(load, 2)}
            )
            fresh, self._fresh = self._fresh, asyncio.Event()
            fresh.set()

    async def next(self) -> dict[str, float]:
        """Wait for the next sample and return it."""
        await self._fresh.wait()
        return self.samples[-1]


async def live(socket: ServerConnection, feed: Feed) -> None:
    await socket.send(json.dumps({"samples": list(feed.samples)}))
    while True:
        await socket.send(json.dumps({"samples": [await feed.next()]}))


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


def plain(status: HTTPStatus, kind: str, body: bytes) -> Response:
    headers = Headers(
        [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
    )
    return Response(status.value, status.phrase, headers, body)


def answer(_: ServerConnection, request: Request) -> Response | None:
    """Return the response to a request without an upgrade, or None to continue the handshake."""
    path = request.path.partition("?")[0]
    wants_socket = "websocket" in request.headers.get("Upgrade", "").lower()
    if wants_socket and path in SOCKETS:
        return None
    if path == "/":
        return plain(HTTPStatus.OK, "text/html; charset=utf-8", PAGE.read_bytes())
    if path == "/healthz":
        return plain(HTTPStatus.OK, "text/plain", b"ok\n")
    if path in SOCKETS:
        return plain(HTTPStatus.UPGRADE_REQUIRED, "text/plain", b"this address is a WebSocket\n")
    return plain(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")


async def run(port: int) -> None:
    feed = Feed()
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)

    async def converse(socket: ServerConnection) -> None:
        assert socket.request is not None
        is_echo = socket.request.path.partition("?")[0] == "/echo"
        with contextlib.suppress(ConnectionClosed):
            await (echo(socket) if is_echo else live(socket, feed))

    sampling = asyncio.create_task(feed.run())
    async with serve(converse, "127.0.0.1", port, process_request=answer):
        print(f"demo backend listens on http://127.0.0.1:{port}/", flush=True)
        await stop.wait()
    sampling.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description="The demo's private service.")
    parser.add_argument("--port", type=int, default=8080)
    try:
        asyncio.run(run(parser.parse_args().port))
    except OSError as error:
        sys.exit(f"demo backend: {error}")


if __name__ == "__main__":
    main()
