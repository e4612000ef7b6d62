"""Routes of the origin: its answer at each `/NAME/…`."""

import base64
import hashlib
import time
from collections.abc import Awaitable, Callable

from tests.support.exchange import Exchange
from tests.support.pattern import pattern

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


# Well-behaved answers


async def echo(x: Exchange) -> None:
    length, digest = await x.digest_body()
    await x.json(
        200,
        {
            "method": x.request.method,
            "target": x.request.target,
            "version": x.request.version,
            "fields": x.request.fields,
            "length": length,
            "sha256": digest,
            "trailers": x.trailers,
        },
    )


async def fixed(x: Exchange) -> None:
    """/bytes/N"""
    await x.head(
        200, ("Content-Length", str(x.number())), ("Content-Type", "application/octet-stream")
    )
    if x.request.method != "HEAD":
        for piece in pattern(x.number()):
            await x.wire.send(piece)


async def chunked(x: Exchange) -> None:
    """/chunked/N, with trailers"""
    await x.head(200, ("Transfer-Encoding", "chunked"), ("Trailer", "X-Checksum"))
    if x.request.method != "HEAD":
        for piece in pattern(x.number(), piece=10_000):
            await x.chunk(piece)
        await x.wire.send(b"0\r\nX-Checksum: abc123\r\n\r\n")


async def trailers(x: Exchange) -> None:
    """/trailers?NAME=VALUE&…: these fields behind the body, as they are written here"""
    await x.head(200, ("Transfer-Encoding", "chunked"))
    await x.chunk(b"body")
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in x.request.query.items())
    await x.wire.send(b"0\r\n%b\r\n" % lines)


async def until_close(x: Exchange) -> None:
    """/until-close/N: no length, the end of the connection ends the body"""
    x.reusable = False
    await x.head(200, ("Content-Type", "application/octet-stream"))
    for piece in pattern(x.number()):
        await x.wire.send(piece)


async def early_hints(x: Exchange) -> None:
    await x.head(103, ("Link", "</style.css>; rel=preload; as=style"), reason="Early Hints")
    await x.wire.pause(float(x.request.query.get("wait", "0")))
    await x.reply(200, b"after the hints")


async def halves(x: Exchange) -> None:
    """/halves?wait=SECONDS: a length is named, and the second half comes later"""
    await x.head(200, ("Content-Length", "10"))
    await x.wire.send(b"first")
    await x.wire.pause(float(x.request.query["wait"]))
    await x.wire.send(b"later")


async def upload(x: Exchange) -> None:
    """Reads all; says 100 first where the client waits for it"""
    if x.request.get("expect").lower() == "100-continue":
        await x.head(100, reason="Continue")
    length, digest = await x.digest_body()
    await x.json(200, {"length": length, "sha256": digest, "trailers": x.trailers})


async def late(x: Exchange) -> None:
    """/late?wait=SECONDS: reads all, and answers a while later"""
    length, digest = await x.digest_body()
    await x.wire.pause(float(x.request.query["wait"]))
    await x.json(200, {"length": length, "sha256": digest})


async def refuse(x: Exchange) -> None:
    """/refuse/STATUS: answers without reading the body, and closes"""
    x.reusable = False
    await x.reply(x.number(), b"not this body", ("Connection", "close"))
    await linger(x)


async def early(x: Exchange) -> None:
    """Answers before the body has come, then reads it"""
    await x.reply(200, b"early")
    await x.skip_body()


async def status(x: Exchange) -> None:
    """/status/N: 204 and 304 have no body"""
    number = x.number()
    if number == 204:
        await x.head(204, ("X-Kept", "yes"))
    elif number == 304:
        await x.head(304, ("ETag", '"abc"'), ("Content-Length", "1234"))
    else:
        await x.reply(number, f"status {number}".encode())


async def events(x: Exchange) -> None:
    """/sse?n=20&every=0.05: each event holds the time at which it was sent (CLOCK_MONOTONIC)"""
    n, every = int(x.request.query.get("n", "20")), float(x.request.query.get("every", "0.05"))
    await x.head(200, ("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"))
    for _ in range(n):
        await x.chunk(f"data: {time.monotonic()}\n\n".encode())
        await x.wire.pause(every)
    await x.wire.send(b"0\r\n\r\n")


async def slow(x: Exchange) -> None:
    """/slow/N?every=0.1: N bytes, one by one, with a length"""
    await x.head(200, ("Content-Length", str(x.number())))
    for _ in range(x.number()):
        await x.wire.pause(float(x.request.query.get("every", "0.1")))
        await x.wire.send(b".")


async def hop_by_hop(x: Exchange) -> None:
    """Fields that are for the next hop only"""
    await x.reply(
        200,
        b"ok",
        ("Connection", "x-private"),
        ("X-Private", "for the next hop"),
        ("Keep-Alive", "timeout=5"),
        ("X-Public", "for all"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    )


async def then_close(x: Exchange) -> None:
    """Answers, promises to go on, and closes"""
    await x.reply(200, b"bye")
    x.reusable = False


# Badly-behaved answers


async def never(x: Exchange) -> None:
    await x.wire.pause(None)


async def reset(x: Exchange) -> None:
    """Resets without an answer"""
    x.reusable = False
    x.wire.reset()


async def reset_body(x: Exchange) -> None:
    """Resets in the middle of a body of 100,000 bytes"""
    x.reusable = False
    await x.head(200, ("Content-Length", "100000"))
    await x.wire.send(next(pattern(50_000)))
    await x.wire.pause(0.2)
    x.wire.reset()


async def short_body(x: Exchange) -> None:
    """Closes in the middle of a body"""
    x.reusable = False
    await x.head(200, ("Content-Length", "1000"))
    await x.wire.send(b"x" * 500)


async def short_chunks(x: Exchange) -> None:
    """Closes before the last chunk"""
    x.reusable = False
    await x.head(200, ("Transfer-Encoding", "chunked"))
    await x.chunk(b"x" * 500)


async def garbage(x: Exchange) -> None:
    x.reusable = False
    await x.wire.send(b"\x15\x03\x01\x00\x02\x02\x16 this is not HTTP\r\n\r\n")


async def close_at_once(x: Exchange) -> None:
    x.reusable = False


async def two_lengths(x: Exchange) -> None:
    x.reusable = False
    await x.wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 30\r\n\r\nok")


# Upgrades: any protocol, "chat/1" here


async def linger(x: Exchange) -> None:
    """Reads on until the peer is done, so that closing does not reset what we said."""
    while await x.wire.read():
        pass


async def upgrade(x: Exchange) -> None:
    """Echo after 101"""
    x.reusable = False
    await x.head(
        101, ("Connection", "upgrade"), ("Upgrade", "chat/1"), reason="Switching Protocols"
    )
    while piece := await x.wire.read():
        await x.wire.send(piece)


async def upgrade_greeting(x: Exchange) -> None:
    """The server speaks first, in the segment of the 101"""
    x.reusable = False
    await x.wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\nhello"
        b" first\n"
    )
    while piece := await x.wire.read():
        await x.wire.send(piece)


async def websocket_greeting(x: Exchange) -> None:
    """The same as a WebSocket: a text frame in the segment of the 101"""
    x.reusable = False
    key = x.request.get("sec-websocket-key").encode()
    accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())
    await x.wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n\x81\x0bhello first"
    )
    await x.wire.read()  # the client's close; ours is the end of the connection


async def upgrade_refused(x: Exchange) -> None:
    await x.reply(403, b"no upgrade here", ("X-Reason", "because"))


async def upgrade_ignored(x: Exchange) -> None:
    await x.reply(200, b"plain answer")


async def upgrade_half_close(x: Exchange) -> None:
    """Reads to the end of what the client sends, then answers: 'N sha256'"""
    x.reusable = False
    await x.head(
        101, ("Connection", "upgrade"), ("Upgrade", "chat/1"), reason="Switching Protocols"
    )
    length, digest = 0, hashlib.sha256()
    while piece := await x.wire.read():
        digest.update(piece)
        length += len(piece)
    await x.wire.send(f"{length} {digest.hexdigest()}".encode())


async def upgrade_server_half_close(x: Exchange) -> None:
    """Send 'done', half-close, and count the client's further bytes in `/stats`."""
    x.reusable = False
    await x.head(
        101, ("Connection", "upgrade"), ("Upgrade", "chat/1"), reason="Switching Protocols"
    )
    await x.wire.send(b"done")
    x.wire.transport.write_eof()
    length = 0
    while piece := await x.wire.read():
        length += len(piece)
    x.stats.served[f"after-half-close-{length}"] = 1


async def upgrade_reset(x: Exchange) -> None:
    """Resets after the first bytes"""
    x.reusable = False
    await x.head(
        101, ("Connection", "upgrade"), ("Upgrade", "chat/1"), reason="Switching Protocols"
    )
    await x.wire.read()
    x.wire.reset()


ROUTES: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    "bytes": fixed,
    "chunked": chunked,
    "trailers": trailers,
    "until-close": until_close,
    "early-hints": early_hints,
    "halves": halves,
    "upload": upload,
    "late": late,
    "refuse": refuse,
    "early": early,
    "status": status,
    "sse": events,
    "slow": slow,
    "hop-by-hop": hop_by_hop,
    "then-close": then_close,
    "never": never,
    "reset": reset,
    "reset-body": reset_body,
    "short-body": short_body,
    "short-chunks": short_chunks,
    "garbage": garbage,
    "close-at-once": close_at_once,
    "two-lengths": two_lengths,
    "upgrade": upgrade,
    "upgrade-greeting": upgrade_greeting,
    "websocket-greeting": websocket_greeting,
    "upgrade-refused": upgrade_refused,
    "upgrade-ignored": upgrade_ignored,
    "upgrade-half-close": upgrade_half_close,
    "upgrade-server-half-close": upgrade_server_half_close,
    "upgrade-reset": upgrade_reset,
}
