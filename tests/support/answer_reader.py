"""Reads what a client gets for one request over HTTP/1.1, and describes it in one line."""

import asyncio
import re
from collections.abc import Iterable

import h11

from tests.support.entrypoint import Entrypoint

Pairs = Iterable[tuple[bytes, bytes]]

_ODD = re.compile(rb"x-odd|x-long|x-field-\d+")
_SHORT = 40


async def read_answer(entrypoint: Entrypoint, host: str, method: str, target: str) -> str:
    """Return interim answers, status, body, odd fields and trailers of the answer to a request."""
    async with await entrypoint.open(host) as client:
        fields = [("Connection", "close"), ("TE", "trailers")]
        await client.send_head(method, target, fields)
        async with asyncio.timeout(client.patience):
            raw = await client.reader.read()
            while piece := await client.reader.read(1 << 16):
                raw += piece
    return describe(raw, method)


def describe(raw: bytes, method: str) -> str:
    """Return a description of all bytes that a client got; `broken off` if the answer is
    incomplete."""
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    machine.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    machine.send(h11.EndOfMessage())
    machine.receive_data(raw)
    machine.receive_data(b"")
    interim, status, body, rest = "", "", b"", ""
    try:
        while True:
            match machine.next_event():
                case h11.InformationalResponse(status_code=code):
                    interim += f"{code}, "
                case h11.Response(status_code=code, headers=headers):
                    status, rest = str(code), _fields(headers)
                case h11.Data(data=data):
                    body += data
                case h11.EndOfMessage(headers=headers):
                    rest += "".join(f", trailer {_pair(*pair)}" for pair in headers)
                    break
    except h11.RemoteProtocolError:
        if not status:
            return "no answer"
        # How much of the body came before depends on the timing.
        return f"{interim}{status}, broken off"
    if status in ("502", "431"):
        return status
    return f"{interim}{status} {_text(body)}{rest}"


def _fields(pairs: Pairs) -> str:
    odd: dict[bytes, list[bytes]] = {}
    for name, value in sorted(pairs, key=lambda pair: pair[0]):
        if _ODD.fullmatch(name):
            odd.setdefault(b"x-field" if name.startswith(b"x-field") else name, []).append(value)
    return "".join(
        f", {len(values)} times X-Field"
        if name == b"x-field"
        else f", {name.decode().title()}: {' '.join(map(_text, values))}"
        for name, values in odd.items()
    )


def _pair(name: bytes, value: bytes) -> str:
    return f"{name.decode().title()}: {_text(value)}"


def _text(value: bytes) -> str:
    if len(value) > _SHORT:
        return f"{len(value)} bytes"
    return '"' + repr(value)[2:-1] + '"'
