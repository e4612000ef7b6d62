"""Requests that two servers could understand differently: a backend never gets two from one.

The cases are data in `tests/smuggling_cases.py`. The server, asked directly, refuses each "refused" one. Caddy in front
may make something unambiguous of it; then the backend gets what Caddy understood: no more requests than Caddy answered,
and no head that leaves room for doubt.
"""

import asyncio
import base64
import contextlib
import re
from typing import Any

import pytest

from tests.component.conftest import RECORDED, Parts
from tests.smuggling_cases import CASES, Case
from tests.support.backends import Origin
from tests.support.entrypoint import Way
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("http"),
]

LINES = ((b"app.example.com", RECORDED.encode()), (b"APP.Example.COM", RECORDED.upper().encode()))


def addressed(case: Case) -> bytes:
    """The case for a host of ours; the name is as long as the one it replaces, so no length changes."""
    raw = case.raw
    for old, new in LINES:
        assert len(old) == len(new)
        raw = raw.replace(old, new)
    return raw


async def exchange(way: Way, raw: bytes, patience: float) -> tuple[bytes, bool]:
    """Sends the bytes; what came back until the other side ended or was silent, and whether it ended."""
    heard = b""
    async with await way.open(RECORDED) as client:
        with contextlib.suppress(ConnectionError):
            await client.send(raw)
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
    """What the backend recorded, once it has finished with all of it; the record begins anew."""

    async def finished() -> bool:
        return all("complete" in entry or "rest" in entry for entry in await recorder.requests())

    await eventually(finished, "the backend has finished", 5)
    return await recorder.requests(clear=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_server(case: Case, parts: Parts) -> None:
    await parts.recorder.requests(clear=True)
    if case.expectation == "refused":
        heard, ended = await exchange(parts.stack.api, addressed(case), 5)
        assert ended, f"the connection stayed open after {heard[:200]!r}"
        assert heard.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), heard[:200]
        assert heard.count(b"HTTP/1.1 ") == 1, heard
    else:
        async with await parts.stack.api.open(RECORDED) as client:
            await client.send(addressed(case))
            assert (await client.read_response(case.raw.split(b" ")[0].decode())).status == 200
    record = await settled(parts.recorder)
    complete = [entry for entry in record if entry.get("complete")]
    assert len(complete) == (case.expectation == "unambiguous"), record
    check(record)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_through_caddy(case: Case, parts: Parts) -> None:
    await parts.recorder.requests(clear=True)
    heard, _ = await exchange(parts.stack.caddy, addressed(case), 0.3)
    answers = len(re.findall(rb"HTTP/1\.1 [2-5]\d\d ", heard))
    check(await settled(parts.recorder), at_most=max(1, answers))


def check(record: list[dict[str, Any]], *, at_most: int = 1) -> None:
    """No request too many, and nobody could read it otherwise."""
    assert len(record) <= at_most, record
    for entry in record:
        assert "rest" not in entry, base64.b64decode(entry["rest"])
        assert not entry["doubts"], entry["doubts"]


async def test_two_hundred_at_once_leave_the_server_well(parts: Parts) -> None:
    """All cases in parallel, cut off in the middle; then an ordinary request still works."""

    async def cut(case: Case) -> None:
        async with await parts.stack.api.open(RECORDED) as client:
            with contextlib.suppress(ConnectionError):
                await client.send(addressed(case)[: len(case.raw) // 2])

    await asyncio.gather(*(cut(case) for case in CASES))
    assert (await parts.stack.api.get(RECORDED, "/echo")).status == 200
    await settled(parts.recorder)
