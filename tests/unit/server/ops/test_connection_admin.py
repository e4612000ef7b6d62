"""Tests of the commands about open connections, with relays of all kinds."""

import asyncio
import re
from time import time
from typing import Any, cast

import pytest

from tests.unit.server.observed_proxy import HELLO, ObservedProxy
from zerotrust.access.subject import Subject, SubjectKind
from zerotrust.errors import NotFound
from zerotrust.http.websocket_frames import close_frame
from zerotrust.model.traffic_admin import ConnectionInfo, ConnectionQuery, EndConnectionRequest
from zerotrust.net import background_work
from zerotrust.server.ops import connection_admin
from zerotrust.server.ops.connection_admin import ConnectionAdmin
from zerotrust.server.ops.traffic_sampler import OpenExchange

pytestmark = pytest.mark.anyio

BEN = Subject(kind=SubjectKind.USER, id="u_ben", name="ben", groups=frozenset(("family",)))
PING, PONG = b"\x89\x01a", b"\x8a\x01a"
SHAPED = {"traffic_shaping": {"download_limit": "1MiB/s"}}


def masked(frame: bytes) -> bytes:
    """Return a frame of a backend as a client sends it, with a mask that changes nothing."""
    return bytes((frame[0], frame[1] | 0x80, 0, 0, 0, 0)) + frame[2:]


class RecordedAudit:
    """Audit log in a list."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, str | None, Any]] = []

    async def note(
        self, action: str, details: Any, *, actor: str = "server", agent: str | None = None
    ) -> None:
        self.records.append((action, actor, agent, details))


class Administrator:
    """Gives commands about the connections of one proxy."""

    def __init__(self, proxy: ObservedProxy) -> None:
        self.audit = RecordedAudit()
        self.later = 0.0
        self.admin = ConnectionAdmin(
            lambda: proxy.registry.sessions,
            self.audit,
            clock=lambda: time() + self.later,
        )

    async def list(self, **asked: Any) -> list[ConnectionInfo]:
        query = ConnectionQuery.model_validate(asked)
        return (await self.admin.connections(query, "uid 0")).connections

    async def end(self, connection_id: str) -> str:
        return (await self.admin.end(EndConnectionRequest(id=connection_id), "uid 0")).host


async def test_a_websocket_is_listed_with_its_bytes() -> None:
    proxy = ObservedProxy()
    administrator = Administrator(proxy)
    await proxy.open_websocket()
    await proxy.send(HELLO)
    proxy.connection.data_received(b"\x81\x80\x00\x00\x00\x00")
    (found,) = await administrator.list()
    assert (found.kind, found.method, found.path) == ("websocket", "GET", "/ws")
    assert (found.host, found.agent, found.service) == ("app.example.com", "home", "app")
    assert (found.user, found.client) == ("user:anna", "203.0.113.7")
    assert (found.received, found.sent) == (6, 7)
    assert found.since is not None and abs(found.since - time()) < 60
    assert ConnectionInfo.model_validate(found.model_dump()) == found


@pytest.mark.parametrize("policy", [None, SHAPED])
async def test_a_websocket_is_listed_with_its_frames_and_pings(
    policy: dict[str, Any] | None,
) -> None:
    proxy = ObservedProxy(policy=policy)
    await proxy.open_websocket()
    (found,) = await Administrator(proxy).list()
    assert (found.frames_received, found.frames_sent) == (0, 0)
    assert (found.client_round_trip, found.backend_round_trip) == (None, None)
    await proxy.send(HELLO + PING)
    proxy.connection.data_received(masked(PONG) + masked(PING))
    await proxy.send(PONG)
    (found,) = await Administrator(proxy).list()
    assert (found.frames_received, found.frames_sent) == (2, 3)
    for seconds in (found.client_round_trip, found.backend_round_trip):
        assert seconds is not None and 0 < seconds < 60


async def test_frames_are_not_shown_where_the_service_does_not_allow_it() -> None:
    proxy = ObservedProxy(policy={"access": {"inspection": "never"}})
    await proxy.open_websocket()
    await proxy.send(HELLO)
    (found,) = await Administrator(proxy).list()
    assert (found.kind, found.sent, found.frames_sent) == ("websocket", 7, None)


async def test_a_service_that_changes_its_mind_counts_for_open_websockets() -> None:
    proxy = ObservedProxy()
    await proxy.open_websocket()
    for inspection, frames in (("never", None), ("payload", 0)):
        proxy.register({"access": {"inspection": inspection}})
        (found,) = await Administrator(proxy).list()
        assert (found.inspection, found.frames_sent) == (inspection, frames)


async def test_a_request_is_listed_when_it_has_run_for_some_time() -> None:
    proxy = ObservedProxy()
    administrator = Administrator(proxy)
    await proxy.begin_download("/file?secret=1")
    assert await administrator.list() == []
    administrator.later = connection_admin.LONG
    (found,) = await administrator.list()
    assert (found.kind, found.path, found.user) == ("request", "/file", "machine:frame")
    assert found.sent == 5


async def test_a_request_from_before_the_notes_is_listed_without_its_begin() -> None:
    proxy = ObservedProxy()
    proxy.ingress.observers = ()
    await proxy.begin_download()
    (found,) = await Administrator(proxy).list()
    assert found.since is None


async def test_connections_are_filtered() -> None:
    proxy = ObservedProxy()
    administrator = Administrator(proxy)
    await proxy.open_websocket()
    await proxy.open_websocket(BEN)
    for asked, users in (
        ({"user": "ben"}, ["user:ben"]),
        ({"user": "user:anna"}, ["user:anna"]),
        ({"user": "nobody"}, []),
        ({"host": "app.example.com"}, ["user:ben", "user:anna"]),
        ({"host": "other.example.com"}, []),
        ({"agent": "home"}, ["user:ben", "user:anna"]),
        ({"agent": "other"}, []),
    ):
        assert [one.user for one in await administrator.list(**asked)] == users


async def test_pages_have_the_newest_first_and_end() -> None:
    proxy = ObservedProxy()
    administrator = Administrator(proxy)
    for _ in range(5):
        await proxy.open_websocket()
    first = await administrator.list(limit=2)
    second = await administrator.list(limit=2, before=first[-1].number)
    third = await administrator.list(limit=2, before=second[-1].number)
    numbers = [one.number for one in (*first, *second, *third)]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) == 5
    page = await administrator.admin.connections(ConnectionQuery(limit=2), "uid 0")
    assert page.total == 5


async def test_the_loop_is_not_held_by_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_work, "SLICE", 0.0)
    monkeypatch.setattr(connection_admin, "CLOCK_EVERY", 1)
    proxy = ObservedProxy()
    await proxy.open_websocket()
    await proxy.open_websocket()
    administrator = Administrator(proxy)
    found = await administrator.list()
    assert len(found) == 2
    for one in found:
        await administrator.end(one.id)
    assert await administrator.list() == []


async def test_what_ends_while_others_are_looked_at_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background_work, "SLICE", 0.0)
    monkeypatch.setattr(connection_admin, "CLOCK_EVERY", 1)
    proxy = ObservedProxy()
    await proxy.open_websocket()
    await proxy.open_websocket()
    listing = asyncio.ensure_future(Administrator(proxy).list())
    await asyncio.sleep(0)
    for session in proxy.registry.sessions:
        for request in session.open_requests():
            cast("OpenExchange", request).withdraw("signed out")
    assert await listing == []


@pytest.mark.parametrize("policy", [None, SHAPED])
async def test_a_websocket_is_ended_with_1008(policy: dict[str, Any] | None) -> None:
    proxy = ObservedProxy(policy=policy)
    administrator = Administrator(proxy)
    await proxy.open_websocket()
    (found,) = await administrator.list()
    assert await administrator.end(found.id) == "app.example.com"
    assert await proxy.hear() == close_frame(1008, connection_admin.REASON)
    assert not proxy.pair.server.session.streams, "the backend learns of it"
    details = {"id": found.id, "host": "app.example.com", "user": "user:anna"}
    assert administrator.audit.records == [("connection.ended", "uid 0", "home", details)]
    assert await administrator.list() == []
    with pytest.raises(NotFound, match=re.escape(found.id)):
        await administrator.end(found.id)


async def test_a_download_is_broken_off() -> None:
    proxy = ObservedProxy()
    administrator = Administrator(proxy)
    await proxy.begin_download()
    administrator.later = 60
    (found,) = await administrator.list()
    await administrator.end(found.id)
    await proxy.hear()
    assert proxy.transport.is_closing()
    assert await administrator.list() == []
