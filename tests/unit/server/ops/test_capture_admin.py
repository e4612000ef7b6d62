"""Tests of the commands about captures."""

import zlib
from typing import Any

import pytest

from tests.unit.http.generated_frames import Frame
from tests.unit.server.captured_websocket import ALLOWED, DEFLATE, CapturedWebSocket, deflated
from zerotrust.errors import CaptureRefused, NotFound
from zerotrust.http.websocket_frames import close_frame
from zerotrust.model.admin import NoParameters
from zerotrust.model.capture_admin import (
    CapturedMessageInfo,
    CapturedMessageQuery,
    CaptureInfo,
    CaptureRequest,
    StartCaptureRequest,
)
from zerotrust.server.ops.capture_admin import CaptureAdmin
from zerotrust.server.proxy.relay import Relay
from zerotrust.server.proxy.shaping import ShapedRelay

pytestmark = pytest.mark.anyio

SHAPED = {**ALLOWED, "traffic_shaping": {"download_limit": "1MiB/s"}}
HOST = "app.example.com"


class Administrator:
    """Gives commands about captures of one proxy."""

    def __init__(self, opened: CapturedWebSocket) -> None:
        self.opened = opened
        self.admin = CaptureAdmin(opened.captures, opened.proxy.registry)

    @property
    def connection(self) -> str:
        """Id of the newest request."""
        streams = self.opened.proxy.pair.server.session.streams
        sink = streams[max(streams)].sink
        assert isinstance(sink, (Relay, ShapedRelay))
        return sink.context.id

    async def start(self, **asked: Any) -> CaptureInfo:
        request = StartCaptureRequest.model_validate({"reason": "why not", **asked})
        return await self.admin.start(request, "user anna")

    async def messages(self, capture: CaptureInfo, count: int) -> list[CapturedMessageInfo]:
        await self.opened.captured(self.opened.captures.get(capture.id), count)
        return (await self.admin.messages(CapturedMessageQuery(id=capture.id), "")).messages

    async def only(self) -> CaptureInfo:
        (found,) = (await self.admin.captures_now(NoParameters(), "")).captures
        return found


async def open_one(policy: dict[str, Any] | None = None, **about: Any) -> Administrator:
    return Administrator(await CapturedWebSocket.open(policy=policy, **about))


@pytest.mark.parametrize("policy", [ALLOWED, SHAPED])
async def test_a_connection_is_captured(policy: dict[str, Any]) -> None:
    administrator = await open_one(policy)
    opened = administrator.opened
    connection_id = administrator.connection
    started = await administrator.start(connection=connection_id, time="1m")
    assert (started.state, started.host, started.agent) == ("running", HOST, "home")
    assert (started.connection, started.actor, started.service) == (
        connection_id,
        "user anna",
        "app",
    )
    assert started.ends_at - started.started_at == 60
    await opened.say(Frame(0x81, b"hello").data)
    (found,) = await administrator.messages(started, 1)
    assert (found.by, found.kind, found.text, found.hex) == ("backend", "text", "hello", "")
    assert (found.size, found.code, found.cut, found.compressed) == (5, None, False, False)
    stopped = await administrator.admin.stop(CaptureRequest(id=started.id), "uid 0")
    assert (stopped.state, stopped.messages) == ("ended", 1)
    await opened.close()


async def test_the_next_websocket_of_a_host_name_is_waited_for() -> None:
    administrator = await open_one()
    started = await administrator.start(host="App.Example.Com")
    assert (started.state, started.host, started.connection) == ("waiting", HOST, "")
    assert (await administrator.only()).id == started.id
    await administrator.opened.close()


@pytest.mark.parametrize("inspection", ["never", "metadata", None])
async def test_a_service_must_allow_it(inspection: str | None) -> None:
    administrator = await open_one({"access": {"inspection": inspection}} if inspection else {})
    opened = administrator.opened
    for asked in ({"host": HOST}, {"connection": administrator.connection}):
        with pytest.raises(CaptureRefused) as refused:
            await administrator.start(**asked)
        for part in ("service app", "access.inspection", "payload", "file of the agent home"):
            assert part in str(refused.value)
    assert not opened.captures.all and not opened.audit.records
    await opened.close()


async def test_there_must_be_one() -> None:
    administrator = await open_one()
    with pytest.raises(NotFound, match="abc-1"):
        await administrator.start(connection="abc-1")
    with pytest.raises(NotFound, match="no agent serves other"):
        await administrator.start(host="other.example.com")
    for command in (
        administrator.admin.stop(CaptureRequest(id="x"), ""),
        administrator.admin.messages(CapturedMessageQuery(id="x"), ""),
    ):
        with pytest.raises(NotFound, match="no capture has the id x"):
            await command
    await administrator.opened.close()


async def test_a_request_that_is_no_websocket() -> None:
    administrator = await open_one()
    proxy = administrator.opened.proxy
    proxy.connect()
    await proxy.ask("GET /file")
    with pytest.raises(NotFound, match="is no WebSocket"):
        await administrator.start(connection=administrator.connection)
    await administrator.opened.close()


async def test_each_kind_of_message_is_shown() -> None:
    administrator = await open_one(lines=DEFLATE)
    opened = administrator.opened
    started = await administrator.start(connection=administrator.connection)
    await opened.say(
        Frame(0x81, "é".encode() * 600).data
        + Frame(0x81, b"\xff<b>").data
        + Frame(0x82, b"\x00\x01").data
        + Frame(0x89, b"p").data
        + Frame(0x8A, b"").data
        + Frame(0x83, b"?").data
        + deflated(zlib.compressobj(wbits=-15), b"x" * 3000)
        + Frame(0xC1, b"\xff").data
        + close_frame(1001, "bye")
    )
    found = await administrator.messages(started, 9)
    assert [(one.kind, one.text, one.hex, one.code, one.compressed, one.cut) for one in found] == [
        ("text", "é" * 512, "", None, False, True),
        ("text", "\ufffd<b>", "", None, False, False),
        ("binary", "", "0001", None, False, False),
        ("ping", "", "70", None, False, False),
        ("pong", "", "", None, False, False),
        ("unknown", "", "3f", None, False, False),
        ("text", "x" * 1024, "", None, False, True),
        ("text", "", "", None, True, False),
        ("close", "bye", "", 1001, False, False),
    ]
    opened.ask(Frame(0x88, b""))
    (last,) = (
        await administrator.admin.messages(
            CapturedMessageQuery(id=started.id, after=8, limit=1), ""
        )
    ).messages
    assert last.number == 9
    assert (await administrator.messages(started, 10))[-1].code is None
    await opened.close()


async def test_one_whose_websocket_has_ended_is_shown_as_such() -> None:
    administrator = await open_one()
    opened = administrator.opened
    started = await administrator.start(connection=administrator.connection)
    opened.proxy.connection.ended(None)
    await opened.ended(opened.captures.get(started.id))
    found = await administrator.only()
    assert (found.state, found.over) == ("ended", "the connection has ended")
    await opened.close()
