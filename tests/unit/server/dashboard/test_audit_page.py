"""Tests of the page of the audit log."""

import asyncio
import json
from unittest.mock import patch

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer, send
from tests.support.portal_server import Browser
from tests.support.waiting import eventually
from zerotrust.db import audit
from zerotrust.model import admin
from zerotrust.server.dashboard import audit_page

pytestmark = pytest.mark.anyio


async def test_records_are_filtered_and_come_in_pages(
    server: DashboardServer, vera: Browser
) -> None:
    with server.store.database.transaction() as session:
        for number in range(150):
            audit.append(
                session,
                at=1_800_000_000,
                actor="agent <b>",
                action="hosts.refused",
                agent="home",
                details={"hosts": ["a", "b"], "count": number, "none": None, "seen_at": 0},
            )
    reply = await vera.get(f"{ADMIN}/audit?action=hosts.refused")
    assert reply.text.count("hosts.refused") >= 100
    assert "count: 149" in reply.text
    assert "hosts: a b" in reply.text
    assert "none" not in reply.page.text
    older = reply.page.links["Older records"]
    reply = await vera.get(f"{ADMIN}{older}")
    assert ("count: 0" in reply.text, "count: 60" in reply.text) == (True, False)
    assert "Older records" not in reply.page.links
    empty = await vera.get(f"{ADMIN}/audit?agent=other")
    assert "There is no record like this." in empty.text
    refused = await vera.get(f"{ADMIN}/audit?before=x")
    assert refused.status == 400


async def test_those_who_may_look_may_verify_and_export(
    server: DashboardServer, vera: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_page, "EXPORTED_AT_ONCE", 2)
    reply = await send(vera, "/audit", "/audit/verify")
    assert "records are intact" in reply.text
    reply = await send(vera, "/audit", "/audit/export")
    assert reply.header("content-disposition") == 'attachment; filename="audit.ndjson"'
    records = [json.loads(line) for line in reply.text.splitlines()]
    assert [record["number"] for record in records] == list(range(1, len(records) + 1))
    assert (records[-1]["action"], records[-1]["actor"]) == ("audit.exported", "user vera")


async def test_an_export_has_the_newest_records(
    server: DashboardServer, vera: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_page, "EXPORTED_AT_ONCE", 2)
    monkeypatch.setattr(audit_page, "MAX_EXPORTED", 5)
    for _ in range(3):
        reply = await send(vera, "/audit", "/audit/export")
    last = await server.commands.last_record()
    numbers = [json.loads(line)["number"] for line in reply.text.splitlines()]
    assert numbers == list(range(last - 4, last + 1))


async def test_one_verification_runs_at_a_time(server: DashboardServer, vera: Browser) -> None:
    go = asyncio.Event()
    check = admin.AuditCheck(records=0, head="0" * 64, broken=None, reason="")

    async def verify(*_: object) -> admin.AuditCheck:
        await go.wait()
        return check

    with patch.object(server.commands, "verify", side_effect=verify) as asked:
        first = asyncio.ensure_future(send(vera, "/audit", "/audit/verify"))
        await eventually(lambda: asked.called, "the first verification runs")
        async with asyncio.timeout(5):
            second = await send(vera, "/audit", "/audit/verify")
        assert (second.status, "Another verification is running" in second.text) == (409, True)
        go.set()
        assert "records are intact" in (await first).text
        assert "records are intact" in (await send(vera, "/audit", "/audit/verify")).text


async def test_a_changed_record_is_found(server: DashboardServer, anna: Browser) -> None:
    check = admin.AuditCheck(records=0, head="0" * 64, broken=1, reason="it was changed")
    with patch.object(server.commands, "verify", return_value=check):
        reply = await send(anna, "/audit", "/audit/verify")
    assert "Record 1 is not intact" in reply.text


def test_details_that_are_no_object_are_left_out() -> None:
    assert audit_page.shown_details(["x"]) == []
