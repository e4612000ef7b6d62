"""Tests of zerotrust.db.servers."""

import pytest

from zerotrust.db import servers
from zerotrust.db.database import Database
from zerotrust.db.servers import LEASE
from zerotrust.db.tables import ServerRow


class Clock:
    """The time that the database says."""

    now = 1000

    def __call__(self, _session: object) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(servers, "clock", made)
    return made


def renew(database: Database, name: str = "a") -> ServerRow | None:
    with database.transaction() as session:
        return servers.renew(session, name, address=f"{name}.example.com:8443", version="1")


def listed(database: Database) -> list[str]:
    with database.transaction() as session:
        return [row.id for row in servers.listed(session)]


def test_a_server_is_listed_until_its_lease_ends(database: Database, clock: Clock) -> None:
    assert renew(database) is None
    clock.now += LEASE - 1
    before = renew(database)
    assert before is not None and before.lease_ends_at == 1000 + LEASE
    renew(database, "b")
    clock.now += LEASE - 1
    renew(database, "b")
    assert listed(database) == ["a", "b"]
    clock.now += 1
    assert listed(database) == ["b"]


def test_a_lease_that_has_ended_begins_anew(database: Database, clock: Clock) -> None:
    renew(database)
    clock.now += LEASE
    assert renew(database) is None
    with database.transaction() as session:
        (row,) = servers.listed(session)
    assert (row.since, row.lease_ends_at) == (1000 + LEASE, 1000 + 2 * LEASE)


def test_a_server_that_leaves_is_gone_at_once(database: Database) -> None:
    renew(database)
    with database.transaction() as session:
        servers.remove(session, "a")
    assert listed(database) == []


def test_rows_of_servers_that_never_come_back_are_removed(database: Database, clock: Clock) -> None:
    renew(database)
    clock.now += 2 * 86400
    assert listed(database) == []
    with database.transaction() as session:
        assert session.get(ServerRow, "a") is None


def test_the_clock_is_that_of_the_database(database: Database) -> None:
    with database.transaction() as session:
        assert servers.clock(session) > 1_700_000_000
