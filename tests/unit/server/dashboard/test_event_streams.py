"""Tests of the event streams: they name what has changed, once, and end."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from zerotrust.server.dashboard import event_streams
from zerotrust.server.dashboard.event_streams import EventStreams

pytestmark = pytest.mark.anyio


class Page:
    """Versions of fragments, and the right to look."""

    def __init__(self) -> None:
        self.versions = {"list": "1", "numbers": "1"}
        self.allowed = True

    async def read(self) -> dict[str, str]:
        return dict(self.versions)

    def may_go_on(self) -> bool:
        return self.allowed


async def test_a_stream_names_all_fragments_and_then_those_that_change() -> None:
    page, streams = Page(), EventStreams(interval=0.001)
    events = streams.events(page.read, may_go_on=page.may_go_on)
    assert await anext(events) == "retry: 2000\n\n"
    first = await anext(events)
    assert first.startswith("event: changed\ndata: ")
    assert json.loads(first.partition("data: ")[2]) == {"list": "1", "numbers": "1"}
    assert streams.open == 1
    page.versions["list"] = "2"
    assert json.loads((await anext(events)).partition("data: ")[2]) == {"list": "2"}
    page.allowed = False
    assert await anext(events) == "event: ended\ndata: -\n\n"
    assert [event async for event in events] == []
    assert streams.open == 0


async def test_a_quiet_stream_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "KEEP_ALIVE", 0.002)
    page, streams = Page(), EventStreams(interval=0.001)
    events = streams.events(page.read, may_go_on=page.may_go_on)
    assert [await anext(events) for _ in range(4)][2:] == [": \n\n", ": \n\n"]
    await events.aclose()
    assert streams.open == 0


async def test_streams_end_with_the_server_and_are_bounded() -> None:
    page, streams = Page(), EventStreams(most=1, interval=10.0)
    events = streams.events(page.read, may_go_on=page.may_go_on)
    await anext(events)
    await anext(events)
    refused = streams.response(page.read, may_go_on=page.may_go_on)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    streams.end()
    assert [event async for event in events] == []
    assert streams.response(page.read, may_go_on=page.may_go_on).status_code == 503
    assert isinstance(
        EventStreams().response(page.read, may_go_on=page.may_go_on), StreamingResponse
    )


async def test_a_client_that_does_not_read_loses_its_stream() -> None:
    page, streams = Page(), EventStreams(interval=0.001, send_timeout=0.01)
    bodies: list[bytes] = []

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
            await asyncio.Event().wait()

    response = streams.response(page.read, may_go_on=page.may_go_on)
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
    async with asyncio.timeout(5):
        await response(scope, receive, send)
    assert bodies == [b"retry: 2000\n\n"]
    assert streams.open == 0
