"""The audit of a running server, over a real database."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.databases import migrated_sqlite
from zerotrust.db.database import Database
from zerotrust.enrollment.rate_limits import RECORDS_AT_ONCE
from zerotrust.server.identity import audit as module
from zerotrust.server.identity.audit import FORGOTTEN, Audit, differing_servers

pytestmark = pytest.mark.anyio


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database.open(migrated_sqlite(tmp_path / "state.db"))
    yield made
    made.close()


@pytest.fixture
def ours(database: Database) -> Audit:
    return Audit(database)


async def test_in_pages_and_verified_in_steps(
    ours: Audit, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERIFIED_AT_ONCE", 3)
    for n in range(7):
        await ours.record("configuration.applied", actor="server", details={"keys": [f"k{n}"]})
    await ours.record("other", actor="uid 0", agent="home")
    assert [record.number for record in await ours.records(None, 2)] == [7, 8]
    assert [record.number for record in await ours.records(2, 2)] == [3, 4]
    assert [record.number for record in await ours.records(None, 9, agent="home")] == [8]
    assert len(await ours.records(0, 9, action="configuration.applied")) == 7
    whole = await ours.verify()
    assert (whole.records, whole.broken) == (8, None)
    with database.transaction() as session:
        connection = session.connection()
        for (name,) in connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type='trigger'"
        ).fetchall():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(
            """UPDATE audit SET details = replace(details, 'k4', 'k5') WHERE number = 5"""
        )
    broken = await ours.verify()
    assert (broken.records, broken.broken) == (4, 5)


async def test_who_knocks_again_and_again_is_recorded_once_an_hour(
    ours: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await ours.agent_rejected("home", "abc", "revoked")
    await ours.agent_rejected("home", "def", "revoked")
    (first, second) = await ours.records(None, 9)
    assert (first.action, first.agent_id, first.actor) == ("agent.refused", "home", "server")
    assert '"serial":"def"' in second.details
    later = time.monotonic() + module.REJECTED_INTERVAL + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    await ours.agent_rejected("home", "abc", "revoked")
    assert len(await ours.records(None, 9)) == 3


async def test_what_cannot_be_noted_is_logged(ours: Audit, database: Database) -> None:
    with database.transaction() as session:
        trigger = "CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'x'); END"
        session.connection().exec_driver_sql(trigger)
    with capture_logs() as logs:
        await ours.note("configuration.applied", {})
    assert [one["event"] for one in logs] == ["could not write audit record"]


async def test_an_empty_audit_is_whole(ours: Audit, database: Database) -> None:
    assert (await ours.verify()).records == 0


async def test_who_names_nobody_is_recorded_without_an_agent(ours: Audit) -> None:
    for _ in range(3):
        await ours.agent_rejected(None, None, "the certificate names no agent")
    (record,) = await ours.records(None, 9)
    assert (record.action, record.agent_id) == ("agent.refused", None)


async def test_host_names_are_refused_once_until_they_are_granted(ours: Audit) -> None:
    assert ours.new_refusals("home", [], ["a.example", "b.example"]) == ["a.example", "b.example"]
    assert ours.new_refusals("home", [], ["a.example", "c.example"]) == ["c.example"]
    assert ours.new_refusals("work", [], ["a.example"]) == ["a.example"]
    assert ours.new_refusals("home", ["a.example"], ["b.example"]) == []
    assert ours.new_refusals("home", [], ["a.example"]) == ["a.example"]


async def test_an_agent_that_invents_host_names_fills_no_audit(ours: Audit) -> None:
    for number in range(RECORDS_AT_ONCE + 5):
        await ours.hosts_refused("home", [f"{number}-{other}.example" for other in range(100)])
    found = await ours.records(None, 999)
    assert len(found) == RECORDS_AT_ONCE
    assert found[0].action == "hosts.refused"
    assert '"count":100' in found[0].details
    assert len(found[0].details) < 1000


async def say(audit: Audit, access: str | None, action: str = "server.started") -> None:
    details = {} if access is None else {"server": audit.server, "access": access}
    await audit.record(action, actor="server", details=details)


async def test_servers_of_one_database_with_different_settings(database: Database) -> None:
    first, second, third = (Audit(database, server=name) for name in ("a", "b", "c"))
    assert await first.other_servers() is None, "the database is a file of this machine"
    database.shared = True
    await say(first, "one")
    await say(second, "two")
    await say(third, "one")
    await say(third, None, "configuration.applied")
    found = await first.other_servers()
    assert found is not None
    assert found.differing == ["b"]
    assert abs(found.database_ahead) < 5
    await say(second, "one", "configuration.applied")
    again = await first.other_servers()
    assert again is not None
    assert again.differing == []


async def test_a_server_that_runs_no_more_is_forgotten(database: Database) -> None:
    ours, gone = Audit(database, server="a"), Audit(database, server="b")
    await say(ours, "one")
    await say(gone, "two")
    records = await ours.records(None, 9)
    now = float(records[0].at)
    assert differing_servers(records, "a", now) == ["b"]
    assert differing_servers(records, "unknown", now) == []
    assert differing_servers(records, "a", now + FORGOTTEN + 1) == []
