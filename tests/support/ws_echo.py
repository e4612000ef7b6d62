"""A WebSocket backend: `python -m tests.support.ws_echo --port N`.

    /          echoes; text messages that begin with "!" are orders (below)
    /greet     says "hello" first, then echoes
    /hash      echoes; "!digest" is answered with count and sha256 of all that came in before
    /firehose  sends 64 KiB binary messages as fast as the other side reads them

Orders: "!close CODE REASON", "!ping" (pings the client, says "pong" when it answered), "!fragments
N" (N fragments of one text message), "!extensions" and "!subprotocol" (what was negotiated),
"!token T" (gives this connection a name), "!closed T" (waits for the end of that connection and
tells its code and reason).
"""

import argparse
import asyncio
import contextlib
import hashlib
import signal
from collections.abc import Sequence

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Data, Subprotocol

from tests.support.pattern import pattern

ends: dict[str, ServerConnection] = {}


async def obey(socket: ServerConnection, order: str) -> None:
    word, _, rest = order.removeprefix("!").partition(" ")
    if word == "close":
        code, _, reason = rest.partition(" ")
        await socket.close(int(code), reason)
    elif word == "ping":
        await (await socket.ping())
        await socket.send("pong")
    elif word == "fragments":
        await socket.send([f"fragment {number} " for number in range(int(rest))])
    elif word == "extensions":
        await socket.send(",".join(type(one).__name__ for one in socket.protocol.extensions))
    elif word == "subprotocol":
        await socket.send(str(socket.subprotocol))
    elif word == "token":
        ends[rest] = socket
        await socket.send(order)
    elif word == "closed":
        await ends[rest].wait_closed()
        await socket.send(f"{ends[rest].close_code} {ends[rest].close_reason}")
    else:
        await socket.send(order)


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        if isinstance(message, str) and message.startswith("!"):
            await obey(socket, message)
        else:
            await socket.send(message)


async def greet(socket: ServerConnection) -> None:
    await socket.send("hello")
    await echo(socket)


async def running_hash(socket: ServerConnection) -> None:
    count, digest = 0, hashlib.sha256()
    async for message in socket:
        if message == "!digest":
            await socket.send(f"{count} {digest.hexdigest()}")
            continue
        count += 1
        digest.update(as_bytes(message))
        await socket.send(message)


async def firehose(socket: ServerConnection) -> None:
    offset = 0
    while True:
        for piece in pattern(1 << 20, offset=offset, piece=64 * 1024):
            await socket.send(piece)
        offset += 1 << 20


def as_bytes(message: Data) -> bytes:
    return message.encode() if isinstance(message, str) else bytes(message)


ROUTES = {"/greet": greet, "/hash": running_hash, "/firehose": firehose}


async def converse(socket: ServerConnection) -> None:
    assert socket.request is not None
    with contextlib.suppress(ConnectionClosed):
        await ROUTES.get(socket.request.path.partition("?")[0], echo)(socket)


def choose(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """ "chat" where the client offers it."""
    return Subprotocol("chat") if "chat" in offered else None


async def run(address: str, port: int) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with serve(
        converse,
        address,
        port,
        select_subprotocol=choose,
        max_size=None,
        ping_interval=None,
        backlog=1024,
    ):
        print(f"ws_echo listens on {address}:{port}", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A WebSocket backend for tests.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", default="127.0.0.1")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.address, arguments.port))


if __name__ == "__main__":
    main()
