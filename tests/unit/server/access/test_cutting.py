"""Tests of zerotrust.server.access.cutting, with relays of all kinds."""

import asyncio
from time import time
from typing import Any

import pytest

from tests.unit.server.gated_proxy import ANNA, SCRIPT, GatedProxy
from zerotrust.access.subject import Credential, Subject, SubjectKind
from zerotrust.http.websocket_frames import close_frame
from zerotrust.server.access import cutting
from zerotrust.tunnel.codes import KIND_CHUNKED, KIND_LENGTH, KIND_TUNNEL

pytestmark = pytest.mark.anyio

FAMILY = {"allow": [{"group": "family"}, {"machine": "frame"}]}
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
HELLO = b"\x81\x05hello"
MASK = b"\x00\x00\x00\x00"


class Running(GatedProxy):
    """A request of Anna that runs."""

    cookie: str
    credential: Credential

    def begin(self, **about: Any) -> None:
        self.parent = self.sign_in(ANNA)[1]
        self.cookie, self.credential = self.enter(ANNA, sign_in=self.parent, **about)

    async def open_websocket(self, upgrade: str = "websocket") -> None:
        origin = "Origin: https://app.example.com"
        await self.ask("GET /ws", self.cookie, origin, "Connection: Upgrade", f"Upgrade: {upgrade}")
        switch = SWITCH.replace(b"websocket", upgrade.encode())
        said = await self.answer(switch, kind=KIND_TUNNEL)
        assert said.startswith(b"HTTP/1.1 101 ")

    async def send(self, data: bytes) -> bytes:
        """Send bytes of the backend; return what the client gets."""
        self.agent.session.send_data(self.last[0], data, end=False)
        return await self.hear()

    async def cut_now(self) -> bytes:
        """Run one judgement of all requests; return what the client gets."""
        running = asyncio.get_running_loop().create_task(self.cutting.run())
        try:
            return await self.hear()
        finally:
            running.cancel()


async def websocket(policy: dict[str, Any] | None = None, **about: Any) -> Running:
    proxy = Running(FAMILY, policy=policy)
    proxy.begin(**about)
    await proxy.open_websocket()
    assert await proxy.send(HELLO) == HELLO
    return proxy


@pytest.mark.parametrize("reason", ["signed out", "session ended", "access withdrawn"])
async def test_a_websocket_gets_1008_with_the_reason(reason: str) -> None:
    proxy = await websocket()
    proxy.state.index.end(proxy.parent, reason)
    assert await proxy.cut_now() == close_frame(1008, reason)
    assert proxy.cutting.cut == {reason: 1}
    # The backend learns of it, too.
    await proxy.hear()
    assert not proxy.pair.server.session.streams


async def test_a_websocket_goes_on_while_nothing_has_changed() -> None:
    proxy = await websocket()
    assert await proxy.cut_now() == b""
    assert await proxy.send(HELLO) == HELLO


async def test_a_websocket_is_broken_off_inside_a_frame() -> None:
    proxy = await websocket()
    assert await proxy.send(HELLO[:4]) == HELLO[:4]
    proxy.state.index.end(proxy.parent, "signed out")
    assert await proxy.cut_now() == b""
    assert proxy.transport.is_aborted


async def test_a_websocket_that_closes_already_gets_no_second_close() -> None:
    proxy = await websocket()
    await proxy.send(close_frame(1000))
    proxy.state.index.end(proxy.parent, "signed out")
    assert await proxy.cut_now() == b""
    assert proxy.transport.is_closing()


async def test_another_protocol_is_broken_off() -> None:
    proxy = Running(FAMILY)
    proxy.begin()
    await proxy.open_websocket("chat")
    proxy.state.index.end(proxy.parent, "signed out")
    await proxy.cut_now()
    assert proxy.transport.is_aborted


@pytest.mark.parametrize("kind", [KIND_LENGTH, KIND_CHUNKED])
async def test_a_download_is_broken_off(kind: int) -> None:
    proxy = Running(FAMILY)
    proxy.begin()
    await proxy.ask("GET /file", proxy.cookie)
    length = 100 if kind == KIND_LENGTH else 0
    await proxy.answer_begun(b"HTTP/1.1 200 OK\r\n", kind=kind, length=length, body=b"part")
    proxy.state.index.end(proxy.parent, "signed out")
    await proxy.cut_now()
    assert proxy.transport.is_aborted


async def test_an_upload_is_refused_where_it_has_no_answer_yet() -> None:
    proxy = Running(FAMILY)
    proxy.begin()
    await proxy.ask("POST /file", proxy.cookie, "Content-Length: 100", *SCRIPT, body=b"part")
    proxy.state.index.end(proxy.parent, "signed out")
    said = await proxy.cut_now()
    assert said.startswith(b"HTTP/1.1 401 ")
    assert b"Connection: close" in said
    await proxy.hear()
    assert not proxy.pair.server.session.streams


async def test_a_request_without_an_answer_is_not_sent_to_another_agent() -> None:
    proxy = Running(FAMILY)
    proxy.begin()
    await proxy.ask("GET /slow", proxy.cookie, *SCRIPT)
    opened = len(proxy.opened)
    proxy.state.index.end(proxy.parent, "access withdrawn")
    assert (await proxy.cut_now()).startswith(b"HTTP/1.1 401 ")
    assert len(proxy.opened) == opened


SLOW = {"traffic_shaping": {"download_limit": "1KiB/s", "upload_limit": "1KiB/s"}}


async def test_bytes_that_wait_in_a_shaper_do_not_pass() -> None:
    proxy = Running(FAMILY, policy=SLOW)
    proxy.begin()
    await proxy.open_websocket()
    said = await proxy.send(b"\x82\x7e\x9c\x40" + bytes(40_000))
    assert 4 < len(said) < 40_000
    proxy.state.index.end(proxy.parent, "signed out")
    assert await proxy.cut_now() == b""
    assert proxy.transport.is_aborted
    assert await proxy.hear() == b""


@pytest.mark.parametrize("change", ["rules", "groups", "closed", "deny"])
async def test_who_may_no_longer_enter_is_cut(change: str) -> None:
    proxy = await websocket()
    match change:
        case "rules":
            proxy.change_rules({"allow": [{"group": "admins"}]})
        case "closed":
            proxy.change_rules()
        case "deny":
            proxy.change_rules({**FAMILY, "deny": [{"user": "anna"}]})
        case _:
            subject = Subject(kind=SubjectKind.USER, id="u_anna", name="anna")
            proxy.state.index.replace_subject(proxy.parent, subject)
            proxy.cutting.changed()
    assert await proxy.cut_now() == close_frame(1008, "access withdrawn")


@pytest.mark.parametrize("default", ["nobody", "public"])
async def test_the_conditions_of_the_service_hold_as_long_as_a_request_runs(default: str) -> None:
    handler = {"type": "access", "config": {"require": [{"group": "family"}]}}
    for policy in ({"access": handler["config"]}, {"global_middleware": [handler]}):
        proxy = Running({"allow": [{"user": "anna"}]}, policy=policy)
        proxy.begin()
        await proxy.open_websocket()
        if default == "public":
            proxy.change_rules(default="public")
        assert await proxy.cut_now() == b""
        subject = Subject(kind=SubjectKind.USER, id="u_anna", name="anna")
        proxy.state.index.replace_subject(proxy.parent, subject)
        assert await proxy.cut_now() == close_frame(1008, "access withdrawn")


async def test_who_no_longer_meets_the_conditions_of_the_service_is_told() -> None:
    policy = {"access": {"require": [{"group": "family"}]}}
    proxy = Running({"allow": "signed_in"}, policy=policy)
    proxy.begin()
    await proxy.ask("GET /ws", proxy.cookie, *SCRIPT)
    subject = Subject(kind=SubjectKind.USER, id="u_anna", name="anna")
    proxy.state.index.replace_subject(proxy.parent, subject)
    assert (await proxy.cut_now()).startswith(b"HTTP/1.1 403 ")


async def test_rules_that_still_allow_cut_nothing() -> None:
    proxy = await websocket()
    proxy.change_rules({"allow": [{"user": "anna"}]})
    assert await proxy.cut_now() == b""
    proxy.change_rules(default="public")
    assert await proxy.cut_now() == b""


async def test_a_public_host_that_is_closed_loses_its_requests() -> None:
    proxy = Running(default="public")
    proxy.begin()
    await proxy.open_websocket()
    proxy.change_rules(FAMILY)
    assert await proxy.cut_now() == close_frame(1008, "access withdrawn")


async def test_expiry_is_seen_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "INTERVAL", 0.01)
    proxy = Running(FAMILY)
    proxy.begin(ends_at=time() + 0.2)
    await proxy.open_websocket()
    running = asyncio.get_running_loop().create_task(proxy.cutting.run())
    said = b""
    async with asyncio.timeout(20):
        while not said:
            await asyncio.sleep(0.01)
            said = await proxy.hear()
    running.cancel()
    assert said == close_frame(1008, "session ended")
    assert time() >= proxy.credential.ends_at


async def test_a_proof_of_identity_that_is_too_old_ends_the_session() -> None:
    proxy = Running({**FAMILY, "max_age": "1h"})
    proxy.begin(proven_at=time() - 3590)
    await proxy.open_websocket()
    proxy.credential.proven_at -= 60
    proxy.credential.verdicts = None
    assert await proxy.cut_now() == close_frame(1008, "session ended")


def masked(opcode: int, payload: bytes) -> bytes:
    return bytes((0x80 | opcode, 0x80 | len(payload))) + MASK + payload


@pytest.mark.parametrize(
    ("sent", "counts"),
    [
        (masked(0x1, b"hello"), True),
        (masked(0x2, b""), True),
        (masked(0x0, b"rest"), True),
        (masked(0xA, b"pong"), False),
        (masked(0x9, b"ping") + masked(0xA, b""), False),
        (masked(0xA, b"") + masked(0x1, b"x"), True),
        (masked(0x8, b"\x03\xe8"), False),
    ],
)
async def test_messages_of_the_client_count_as_use(sent: bytes, counts: bool) -> None:
    for pieces in ([sent], [sent[:1], sent[1:]]):
        proxy = await websocket()
        proxy.credential.seen_at = proxy.parent.seen_at = 1.0
        for piece in pieces:
            proxy.connection.data_received(piece)
        assert (proxy.credential.seen_at > 1.0) is counts
        assert (proxy.parent.seen_at > 1.0) is counts


async def test_messages_of_the_backend_do_not_count_as_use() -> None:
    proxy = await websocket()
    proxy.credential.seen_at = 1.0
    await proxy.send(HELLO)
    assert proxy.credential.seen_at == 1.0


async def test_bytes_of_another_protocol_count_as_use() -> None:
    proxy = Running(FAMILY)
    proxy.begin()
    await proxy.open_websocket("chat")
    proxy.credential.seen_at = 1.0
    proxy.connection.data_received(b"\x8a\x00")
    assert proxy.credential.seen_at > 1.0


async def test_what_ends_by_the_clock_alone_is_seen_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "INTERVAL", 0.01)
    proxy = await websocket()
    running = asyncio.get_running_loop().create_task(proxy.cutting.run())
    assert await proxy.hear() == b""
    proxy.parent.idle = 60.0
    proxy.parent.seen_at = time() - 61
    said = b""
    async with asyncio.timeout(20):
        while not said:
            await asyncio.sleep(0.01)
            said = await proxy.hear()
    running.cancel()
    assert said == close_frame(1008, "session ended")


async def test_looks_take_a_hundredth_of_the_time() -> None:
    assert cutting.pause_after(0.005) <= cutting.INTERVAL
    assert cutting.pause_after(0.1) == pytest.approx(10)
    assert cutting.pause_after(3.0) == cutting.LONGEST_INTERVAL


async def test_many_requests_are_judged_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "SLICE", 0.0)
    monkeypatch.setattr(cutting, "CLOCK_EVERY", 1)
    proxy = await websocket()
    turns = 0
    for _ in range(20):
        proxy.connect()
        await proxy.ask("GET /slow", proxy.cookie)
    running = asyncio.get_running_loop().create_task(proxy.cutting.run())
    proxy.state.index.end(proxy.parent, "signed out")
    while len(proxy.pair.server.session.streams) and turns < 100:
        await asyncio.sleep(0)
        turns += 1
    running.cancel()
    assert 20 <= turns < 100
