"""Tests of zerotrust.db.change_watch."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import migrated_sqlite
from zerotrust.db import audit, change_watch
from zerotrust.db.change_watch import ChangeWatch
from zerotrust.db.database import Database
from zerotrust.errors import StateError

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(migrated_sqlite(tmp_path / "state.db"), shared=True)
    yield opened
    opened.close()


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls of a reader whose notifications arrive are so rare that no test sees one."""
    monkeypatch.setattr(change_watch, "POLL_EACH", 0.01)
    monkeypatch.setattr(change_watch, "POLL_WITH_NOTIFICATIONS", 600.0)


async def looks(watch: ChangeWatch, within: float) -> bool:
    """Return True if the reader looks within some seconds."""
    try:
        async with asyncio.timeout(within):
            await watch.wait()
    except TimeoutError:
        return False
    return True


async def test_a_watch_tells_of_commits(tmp_path: Path) -> None:
    url = migrated_sqlite(tmp_path / "state.db")
    database, other = Database.open(url, shared=True), Database.open(url, shared=True)
    watch = ChangeWatch(database)
    assert [await watch.changed() for _ in range(3)] == [True, False, False]
    for writer in (other, database):
        await writer.run(lambda session: session.connection().exec_driver_sql("SELECT 1"))
        assert not await watch.changed(), "nothing was written"
        await writer.run(
            lambda session: audit.append(session, at=1, actor="a", action="server.started")
        )
        assert await watch.changed()
        assert not await watch.changed()
    watch.failed()
    assert await watch.changed(), "what was not read is read again"
    database.close()
    with pytest.raises(StateError, match="closed"):
        await watch.changed()
    other.close()


@pytest.mark.usefixtures("seldom")
async def test_a_reader_polls_until_notifications_are_proven(file: Database) -> None:
    watch = ChangeWatch(file)
    for _ in range(3):
        assert await looks(watch, 15)
    file.signal.prove(True)
    assert await looks(watch, 15), "something may have come before"
    assert not await looks(watch, 0.15)
    file.signal.send()
    assert await looks(watch, 15)
    assert not await looks(watch, 0.15)
    file.signal.prove(False)
    for _ in range(3):
        assert await looks(watch, 15)


@pytest.mark.usefixtures("seldom")
async def test_a_reader_that_failed_polls(file: Database) -> None:
    file.signal.prove(True)
    watch = ChangeWatch(file)
    assert not await looks(watch, 0.15)
    watch.failed()
    assert await looks(watch, 15)
    assert not await looks(watch, 0.15), "it has not failed again"


@pytest.mark.usefixtures("seldom")
async def test_many_notifications_cause_one_look(file: Database) -> None:
    file.signal.prove(True)
    watch = ChangeWatch(file)
    for _ in range(1000):
        file.signal.send()
    begun = time.monotonic()
    assert await looks(watch, 15)
    assert not await looks(watch, 0.15)
    for _ in range(1000):
        file.signal.send()
    assert await looks(watch, 15)
    # The clock of the loop counts milliseconds.
    assert time.monotonic() - begun >= change_watch.LEAST_PAUSE - 0.01, "at most ten a second"
    assert not await looks(watch, 0.15)
