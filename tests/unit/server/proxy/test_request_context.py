"""Tests of the records of finished requests."""

import asyncio
from typing import Any
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from tests.unit.server.gated_proxy import GatedProxy
from tests.unit.server.proxy_fixture import ProxyFixture, lose_link, restore_link
from zerotrust.access.subject import Subject, SubjectKind
from zerotrust.model.server import ProxyApi
from zerotrust.server.agents.scheme import USUAL
from zerotrust.server.proxy.request_context import subject_name
from zerotrust.telemetry.request_record import RequestRecord
from zerotrust.tunnel.binary import pack_head, pack_report
from zerotrust.tunnel.codes import FLAG_REPORT, KIND_CHUNKED, KIND_LENGTH, KIND_TUNNEL, Code

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


def observed(proxy: ProxyFixture) -> list[RequestRecord]:
    """Return the list that the records of all finished requests are appended to."""
    records: list[RequestRecord] = []
    proxy.ingress.observers = (records.append,)
    return records


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0.25", 0.00025),
        ("20000", 20.0),
        ("9999999.5", 9999.9995),
        ("0.30000000000000004", 0.00030000000000000004),
        ("1." + "0" * 21, None),
        ("10000000", None),
        ("-1", None),
        ("1e3", None),
        ("nan", None),
        ("1.", None),
        ("", None),
        ("1 2", None),
        ("9" * 5000, None),
    ],
)
async def test_a_record_has_the_time_at_the_edge(said: str, seconds: float | None) -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    proxy.ingress.edge_times = True
    await proxy.ask("GET /", f"X-0trust-Edge-Time: {said}")
    assert b"edge" not in proxy.opened[0].block.lower()
    await proxy.answer(OK, kind=KIND_LENGTH, body=b"ok")
    assert [one.edge for one in records] == [seconds]


async def test_a_client_is_not_believed_about_the_edge() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await proxy.ask("GET /", "X-0trust-Edge-Time: 1")
    assert b"edge" not in proxy.opened[0].block.lower()
    await proxy.answer(OK, kind=KIND_LENGTH, body=b"ok")
    proxy.ingress.edge_times = True
    proxy.connection.peer_host = "198.51.100.7"
    await proxy.ask("GET /", "X-0trust-Edge-Time: 1")
    assert [one.edge for one in records] == [None, None]


async def test_a_record_has_the_time_at_each_hop() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await proxy.ask("POST /a/b?token=1", "Content-Length: 3", body=b"abc")
    assert proxy.opened[0].flags & FLAG_REPORT
    assert not records
    stream, _ = proxy.last
    report = pack_report(0.001, 0.002, b"10.0.0.5:80")
    proxy.agent.session.send_head(stream, pack_head(KIND_LENGTH, 0, 5, OK, report), end=False)
    await proxy.hear()
    assert not records
    proxy.agent.session.send_data(stream, b"hello", end=True)
    await proxy.hear()
    (record,) = records
    assert (record.method, record.host, record.path) == (b"POST", "app.example.com", "/a/b")
    assert (record.query, record.scheme, record.client) == ("token=1", b"https", b"203.0.113.7")
    assert (record.status, record.received, record.sent) == (200, 3, 5)
    assert (record.agent, record.service, record.upstream) == ("home", "app", "10.0.0.5:80")
    assert record.registered_host == "app.example.com"
    assert (record.ended_by, record.error, record.tries) == ("backend", "", 1)
    assert (record.connect, record.backend) == (0.001, 0.002)
    parts = [record.policy, record.tunnel, record.body]
    assert all(part is not None and part >= 0 for part in parts)
    assert record.duration >= record.body > 0 if record.body else False
    assert record.waited == 0 and not record.failed and not record.upgrade


async def test_without_observers_there_is_no_record_and_no_report() -> None:
    proxy = ProxyFixture({})
    await proxy.ask("GET /")
    assert not proxy.opened[0].flags & FLAG_REPORT
    assert proxy.connection.watcher is None


async def test_an_agent_without_reports_is_not_asked_for_one() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    proxy.pair.server.session.reports = False
    await proxy.ask("GET /")
    assert not proxy.opened[0].flags & FLAG_REPORT
    await proxy.answer(OK, kind=KIND_LENGTH, body=b"ok")
    (record,) = records
    assert record.connect is None and record.backend is None and record.tunnel is not None


async def test_each_request_of_a_connection_has_a_record() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    for body in (b"one", b"three"):
        await proxy.ask("GET /")
        await proxy.answer(OK, kind=KIND_LENGTH, body=body)
    assert [record.sent for record in records] == [3, 5]
    assert len({record.id for record in records}) == 2


async def test_a_refusal_is_the_servers() -> None:
    proxy = ProxyFixture(
        {"global_middleware": [{"type": "ip_allow", "config": {"allowed_ips": ["10.0.0.0/8"]}}]}
    )
    records = observed(proxy)
    reply = await proxy.ask("GET /")
    (record,) = records
    assert (record.status, record.ended_by, record.error) == (403, "server", "ip_refused")
    assert record.sent == len(reply.partition(b"\r\n\r\n")[2])
    assert record.tunnel is record.body is record.connect is None
    assert record.policy == record.duration


async def test_an_unknown_host_has_no_agent() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    proxy.registry.unregister(proxy.agent_session, "app")
    await proxy.ask("GET /")
    assert [(one.status, one.error, one.agent) for one in records] == [(404, "unknown_host", "")]


async def test_a_client_that_goes_away() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await proxy.ask("GET /")
    proxy.connection.connection_lost(None)
    (record,) = records
    assert (record.status, record.ended_by, record.failed) == (0, "client", True)
    assert record.body is record.tunnel is None


async def test_a_client_that_breaks_its_body() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await proxy.ask("POST /", "Transfer-Encoding: chunked", body=b"x\r\n")
    assert [(one.status, one.ended_by) for one in records] == [(400, "client")]


@pytest.mark.parametrize(
    ("code", "status", "error", "hop"),
    [
        (Code.UPSTREAM_UNREACHABLE, 502, "upstream_unreachable", "backend"),
        (Code.UPSTREAM_TIMEOUT, 504, "upstream_timeout", "backend"),
        (Code.INTERNAL, 502, "agent_lost", "tunnel"),
    ],
)
async def test_a_reset_names_its_hop(code: Code, status: int, error: str, hop: str) -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await proxy.ask("GET /")
    proxy.agent.session.reset(proxy.last[0], code, "broken")
    await proxy.hear()
    assert [(one.status, one.error, one.ended_by) for one in records] == [(status, error, hop)]


async def test_an_answer_that_breaks_off_has_failed() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await proxy.ask("GET /")
    await proxy.answer_begun(OK, kind=KIND_CHUNKED, length=0, body=b"half")
    proxy.agent.session.reset(proxy.last[0], Code.UPSTREAM_FAILED, "broken")
    await proxy.hear()
    (record,) = records
    assert (record.status, record.error, record.ended_by) == (200, "upstream_failed", "backend")
    assert record.failed and record.sent == 4


async def test_a_request_that_has_waited() -> None:
    proxy = ProxyFixture({}, api=ProxyApi(hold_timeout=60))
    records = observed(proxy)
    lose_link(proxy)
    await proxy.ask("GET /")
    assert not records
    proxy.connection.connection_lost(None)
    (record,) = records
    assert 0 < record.waited <= record.duration


async def test_a_request_that_was_served_after_a_wait() -> None:
    proxy = ProxyFixture({}, api=ProxyApi(hold_timeout=60))
    records = observed(proxy)
    lose_link(proxy)
    await proxy.ask("GET /")
    await restore_link(proxy)
    await proxy.answer(OK, kind=KIND_LENGTH, body=b"ok")
    (record,) = records
    assert (record.status, record.tries) == (200, 1)
    assert record.policy is not None
    assert 0 < record.waited < record.duration


async def switched(proxy: ProxyFixture) -> None:
    await proxy.ask("GET /ws", *UPGRADE)
    await proxy.answer(SWITCH, kind=KIND_TUNNEL)
    proxy.connection.data_received(b"\x81\x80abcd")
    proxy.agent.session.send_data(proxy.last[0], b"\x81\x02hi", end=False)
    await proxy.hear()


async def test_a_websocket_whose_client_ends() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await switched(proxy)
    proxy.connection.eof_received()
    await proxy.hear()
    assert not records
    proxy.agent.session.send_data(proxy.last[0], b"", end=True)
    await proxy.hear()
    proxy.connection.connection_lost(None)
    (record,) = records
    assert (record.status, record.ended_by, record.upgrade) == (101, "connection", True)
    assert (record.received, record.sent, record.error) == (6, 4, "")


async def test_a_websocket_that_the_backend_closes() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await switched(proxy)
    proxy.agent.session.send_data(proxy.last[0], b"", end=True)
    await proxy.hear()
    proxy.connection.connection_lost(None)
    assert [(one.status, one.ended_by) for one in records] == [(101, "backend")]


async def test_a_websocket_whose_stream_ends_without_an_error() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await switched(proxy)
    proxy.agent.session.reset(proxy.last[0], Code.NO_ERROR, "done")
    await proxy.hear()
    assert [(one.ended_by, one.error) for one in records] == [("backend", "")]


async def test_a_websocket_whose_agent_is_lost() -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await switched(proxy)
    proxy.agent.session.reset(proxy.last[0], Code.WITHDRAWN, "gone")
    await proxy.hear()
    assert [(one.ended_by, one.error) for one in records] == [("agent", "service_gone")]


@pytest.mark.parametrize(
    ("end", "error"),
    [("depart", "going_away"), ("cut", "not_allowed"), ("withdraw", "access_ended")],
)
async def test_a_websocket_that_the_server_ends(end: str, error: str) -> None:
    proxy = ProxyFixture({})
    records = observed(proxy)
    await switched(proxy)
    (stream,) = proxy.pair.server.session.streams.values()
    relay: Any = stream.sink
    getattr(relay, end)(*(() if end == "depart" else ("because",)))
    assert [(one.ended_by, one.error) for one in records] == [("server", error)]


async def test_a_gated_request_has_its_subject() -> None:
    proxy = GatedProxy({"hosts": ["app.example.com"], "allow": [{"group": "family"}]})
    records = observed(proxy)
    cookie, _ = proxy.enter()
    await proxy.ask("GET /", cookie)
    await proxy.answer(OK, kind=KIND_LENGTH, body=b"ok")
    await proxy.ask("GET /")
    first, second = records
    assert (first.subject, first.error) == ("user:anna", "")
    assert (second.subject, second.error, second.status) == ("", "login_required", 401)


async def test_the_query_of_the_servers_own_pages_is_secret() -> None:
    proxy = GatedProxy({"hosts": ["app.example.com"], "allow": [{"group": "family"}]})
    records = observed(proxy)
    await proxy.ask("GET /.0trust/in?code=secret")
    await proxy.settled()
    (record,) = records
    assert record.own_page and record.path == "/.0trust/in" and record.query == ""
    assert (record.status, record.ended_by) == (200, "server")


async def test_the_query_of_an_own_page_is_secret_while_it_waits() -> None:
    rule = {"hosts": ["app.example.com"], "allow": [{"group": "family"}]}
    proxy = GatedProxy(rule, shared=True)
    records = observed(proxy)
    read = asyncio.Event()
    with patch.object(proxy.state, "read_changes", side_effect=read.wait):
        unknown, _ = proxy.enter(known=False)
        assert await proxy.ask("GET /.0trust/in?code=secret", unknown) == b""
        proxy.connection.connection_lost(None)
        read.set()
        await proxy.settled()
    (record,) = records
    assert (record.path, record.query, record.ended_by) == ("/.0trust/in", "", "client")


async def test_an_observer_that_fails_costs_no_request() -> None:
    proxy = ProxyFixture({}, binding=USUAL)
    records: list[RequestRecord] = []

    def broken(record: RequestRecord) -> None:
        raise ValueError("no room")

    proxy.ingress.observers = (broken, records.append)
    with capture_logs() as logs:
        await proxy.ask("GET /")
        assert (await proxy.answer(OK, kind=KIND_LENGTH, body=b"ok")).startswith(OK)
    assert len(records) == 1
    assert [line["event"] for line in logs] == ["request not observed"]


def test_people_are_named_and_others_have_an_id() -> None:
    machine = Subject(kind=SubjectKind.MACHINE, id="machine:frame", name="frame")
    assert subject_name(machine) == "machine:frame"
