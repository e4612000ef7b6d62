"""Requests that two servers could understand differently: a backend never gets two from one.

The cases are data in `tests/smuggling_cases.py`. The server, asked directly, refuses each "refused"
one. Caddy in front may make something unambiguous of it; then the backend gets what Caddy
understood: no more requests than Caddy answered, and no head that leaves room for doubt.

A request whose client has its answer may still be on its way to the backend, and arrive during a
later case. Each case has a client address of its own, so the requests of each are counted by
X-Forwarded-For.
"""

import asyncio
import base64
import contextlib
import itertools
import re
from collections import Counter
from typing import Any

import pytest

from tests.component.conftest import RECORDED, Parts
from tests.smuggling_cases import CASES, Case
from tests.support.backends import Origin
from tests.support.client import Client
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("http"),
]

LINES = ((b"app.example.com", RECORDED.encode()), (b"APP.Example.COM", RECORDED.upper().encode()))


class Requests:
    """The requests that the backend got from each client address, and how many it may get.

    Attributes:
        address: the client address of the current case.
    """

    def __init__(self) -> None:
        self.address = ""
        self._numbers = itertools.count(1)
        self._limits: dict[str, int] = {}
        self._counts: Counter[str] = Counter()

    def begin(self) -> None:
        """Take an address that no case has had."""
        number = next(self._numbers)
        self.address = f"127.1.{number // 256}.{number % 256}"

    def own(self, record: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the requests of the current case."""
        return [entry for entry in record if client_of(entry) == self.address]

    def check(self, record: list[dict[str, Any]], *, at_most: int = 1) -> None:
        """Check that no case has a request too many, and that each request has one meaning.

        Args:
            at_most: requests of the current case.
        """
        self._limits[self.address] = at_most
        for entry in record:
            assert "rest" not in entry, base64.b64decode(entry["rest"])
            assert not entry["doubts"], entry["doubts"]
        self._counts.update(map(client_of, record))
        for address, count in self._counts.items():
            assert count <= self._limits.get(address, 0), (address, record)


def client_of(entry: dict[str, Any]) -> str:
    """Return the client address that the server wrote into a request."""
    [address] = [value for name, value in entry.get("fields", ()) if name == "X-Forwarded-For"] or [
        ""
    ]
    return str(address)


@pytest.fixture(scope="module")
async def counted(parts: Parts) -> Requests:
    await parts.recorder.requests(clear=True)
    return Requests()


@pytest.fixture
def requests(counted: Requests) -> Requests:
    counted.begin()
    return counted


def addressed(case: Case, address: str) -> bytes:
    """Return the case for a host of ours; where it names a client address, for this one.

    The host name is as long as the one it replaces, so no length changes.
    """
    raw = case.raw.replace(b"X-Real-IP: 9.9.9.9", b"X-Real-IP: " + address.encode())
    for old, new in LINES:
        assert len(old) == len(new)
        raw = raw.replace(old, new)
    return raw


async def send(client: Client, raw: bytes) -> None:
    """Send to a server that may close the connection before it has all of it."""
    with contextlib.suppress(ConnectionError):
        await client.send(raw)


async def hear(client: Client, patience: float) -> tuple[bytes, bool]:
    """Read until EOF or `patience` seconds of silence; return the bytes, and True at EOF."""
    heard = b""
    client.patience = patience
    try:
        while piece := await client.read(65536):
            heard += piece
    except TimeoutError:
        return heard, False
    except ConnectionError:
        pass
    return heard, True


async def settled(recorder: Origin) -> list[dict[str, Any]]:
    """Return the complete record of the backend and clear it."""

    async def finished() -> bool:
        return all("complete" in entry or "rest" in entry for entry in await recorder.requests())

    await eventually(finished, "the backend has finished", 5)
    return await recorder.requests(clear=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_server(case: Case, parts: Parts, requests: Requests) -> None:
    raw = addressed(case, requests.address)
    if case.expectation == "refused":
        async with await parts.stack.api.open(RECORDED, address=requests.address) as client:
            await send(client, raw)
            heard, ended = await hear(client, 5)
        assert ended, f"the connection stayed open after {heard[:200]!r}"
        assert heard.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), heard[:200]
        assert heard.count(b"HTTP/1.1 ") == 1, heard
    else:
        async with await parts.stack.api.open(RECORDED, address=requests.address) as client:
            await client.send(raw)
            assert (await client.read_response(case.raw.split(b" ")[0].decode())).status == 200
    record = await settled(parts.recorder)
    complete = [entry for entry in requests.own(record) if entry.get("complete")]
    assert len(complete) == (case.expectation == "unambiguous"), record
    requests.check(record)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_through_caddy(case: Case, parts: Parts, requests: Requests) -> None:
    heard, may_have = b"", 1

    async def answered() -> bool:
        nonlocal heard, may_have
        heard += (await hear(client, 0.3))[0]
        may_have = max(1, len(re.findall(rb"HTTP/1\.1 [2-5]\d\d ", heard)))
        record = requests.own(await parts.recorder.requests())
        return sum(bool(entry.get("complete")) for entry in record) <= may_have

    async with await parts.stack.caddy.open(RECORDED, address=requests.address) as client:
        await send(client, addressed(case, requests.address))
        await eventually(answered, "Caddy has answered as many requests as the backend has")
    requests.check(await settled(parts.recorder), at_most=may_have)


async def test_two_hundred_at_once_leave_the_server_well(parts: Parts) -> None:
    """All cases in parallel, cut off in the middle; then an ordinary request still works."""

    async def cut(case: Case) -> None:
        async with await parts.stack.api.open(RECORDED) as client:
            await send(client, addressed(case, "9.9.9.9")[: len(case.raw) // 2])

    await asyncio.gather(*(cut(case) for case in CASES))
    assert (await parts.stack.api.get(RECORDED, "/echo")).status == 200
    await settled(parts.recorder)
