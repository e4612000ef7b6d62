"""Tests of zerotrust.db.change_listener: real notifications, and what loses them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from tests.support.databases import Cluster
from tests.support.waiting import eventually
from zerotrust.db import agents, change_listener, change_watch
from zerotrust.db import postgresql as postgresql_module
from zerotrust.db.change_listener import ChangeListener
from zerotrust.db.change_watch import ChangeWatch
from zerotrust.db.database import Database
from zerotrust.errors import EnrollmentRefused

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.xdist_group("postgresql")]

TEXT = "not notified of changes by other servers; asking the database twice a second"


@pytest.fixture
def pair(postgresql: Cluster) -> Iterator[tuple[Database, Database]]:
    """One database, opened by two servers."""
    url = postgresql.migrated()
    opened = Database.open(url), Database.open(url)
    yield opened
    for database in opened:
        database.close()


@contextlib.asynccontextmanager
async def listening(database: Database) -> AsyncIterator[None]:
    task = asyncio.create_task(ChangeListener(database).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def proven(database: Database) -> None:
    await eventually(lambda: database.signal.proven, "notifications arrive")


async def write(database: Database, name: str) -> None:
    await database.run(lambda session: agents.ensure(session, name, now=1))


async def kill_listeners(database: Database) -> int:
    """End the connections that listen; return their number."""
    query = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE query LIKE 'LISTEN zerotrust_probe%'"
    )
    return int(await database.run(lambda session: session.scalar(query)) or 0)


async def test_a_commit_of_another_server_is_known_at_once(
    pair: tuple[Database, Database],
) -> None:
    here, other = pair
    async with listening(here):
        await proven(here)
        watch, took = ChangeWatch(here), list[float]()
        for number in range(10):
            await asyncio.sleep(change_watch.LEAST_PAUSE)
            begun = time.monotonic()
            await write(other, f"agent-{number}")
            await watch.wait()
            found = await here.run(agents.everyone)
            took.append(time.monotonic() - begun)
            assert len(found) == number + 1, "what was notified can be read"
        assert sorted(took)[5] < 0.2, took


async def test_only_what_was_written_and_committed_is_notified(
    pair: tuple[Database, Database],
) -> None:
    here, other = pair

    def refuse(session: Session) -> None:
        agents.ensure(session, "refused", now=1)
        raise EnrollmentRefused("no")

    def fail(session: Session) -> None:
        agents.ensure(session, "lost", now=1)
        raise LookupError

    async with listening(here):
        await proven(here)
        before = here.signal.count
        await other.run(agents.everyone)
        with pytest.raises(LookupError):
            await other.run(fail)
        with pytest.raises(EnrollmentRefused):
            await other.run(refuse)
        await eventually(lambda: here.signal.count > before, "the record of the refusal")
        assert here.signal.count == before + 1


async def test_a_connection_that_is_lost_is_made_again(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_listener, "BACK_OFF_FIRST", 0.05)
    here, other = pair
    with capture_logs() as logs:
        async with listening(here):
            await proven(here)
            for _ in range(2):
                seen = here.signal.count
                assert await kill_listeners(other) == 1
                await here.signal.wait(seen, within=10)
                assert not here.signal.proven, "readers poll again"
                await proven(here)
            seen = here.signal.count
            await write(other, "home")
            await here.signal.wait(seen, within=10)
            assert here.signal.count > seen
    warnings = [log["event"] for log in logs if log["log_level"] == "warning"]
    assert warnings == [TEXT] * 2


async def test_a_pooler_that_loses_notifications_is_noticed(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_listener, "BACK_OFF_FIRST", 0.05)
    monkeypatch.setattr(change_listener, "PROOF_TIMEOUT", 0.1)
    here, _ = pair
    listen, attempts = postgresql_module.listen, 0

    async def pooled(*arguments: Any) -> Any:
        """Listen to nothing, as behind a pooler in transaction mode."""
        nonlocal attempts
        attempts += 1
        connection = await listen(*arguments)
        await connection.execute(b"UNLISTEN *")
        return connection

    monkeypatch.setattr(postgresql_module, "listen", pooled)
    with capture_logs() as logs:
        async with listening(here):
            await eventually(lambda: attempts >= 3, "three attempts")
            assert not here.signal.proven
            monkeypatch.setattr(postgresql_module, "listen", listen)
            monkeypatch.setattr(change_listener, "PROOF_TIMEOUT", 1.0)
            await proven(here)
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == [TEXT]
    assert "a connection pooler in transaction mode" in logs[0]["reason"]


async def test_notifications_that_end_are_noticed(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_listener, "PROVE_EACH", 0.05)
    monkeypatch.setattr(change_listener, "PROOF_TIMEOUT", 1.0)
    here, _ = pair
    listen, opened = postgresql_module.listen, list[Any]()

    async def kept(*arguments: Any) -> Any:
        opened.append(await listen(*arguments))
        return opened[-1]

    monkeypatch.setattr(postgresql_module, "listen", kept)
    async with listening(here):
        await proven(here)
        opened[0].pgconn.send_query(b"UNLISTEN *")
        opened[0].pgconn.flush()
        await eventually(lambda: not here.signal.proven, "the next probe is missed")
        await proven(here)
    assert len(opened) >= 2


async def test_a_database_that_is_away_is_told_of_once(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_listener, "BACK_OFF_FIRST", 0.01)
    here, _ = pair
    attempts = 0

    async def refused(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise OSError("connection refused\nIs the server running?")

    listen = postgresql_module.listen
    monkeypatch.setattr(postgresql_module, "listen", refused)
    with capture_logs() as logs:
        async with listening(here):
            await eventually(lambda: attempts >= 3, "three attempts")
            monkeypatch.setattr(postgresql_module, "listen", listen)
            await proven(here)
    assert [(log["log_level"], log.get("reason")) for log in logs] == [
        ("warning", "connection refused Is the server running?"),
        ("info", None),
    ]
