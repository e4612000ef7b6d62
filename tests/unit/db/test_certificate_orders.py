"""Tests of zerotrust.db.certificate_orders."""

import pytest

from zerotrust.db import certificate_orders, servers
from zerotrust.db.certificate_orders import LEASE
from zerotrust.db.database import Database

HOST = "app.example.com"


class Orders:
    """Servers at a database, and the time that it says."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = 1000

    def clock(self, _session: object) -> int:
        return self.now

    def begin(self, server_id: str, host: str = HOST) -> bool:
        with self.database.transaction() as session:
            return certificate_orders.begin(session, host, server_id)

    def end(self, server_id: str, host: str = HOST) -> None:
        with self.database.transaction() as session:
            certificate_orders.end(session, host, server_id)


@pytest.fixture
def orders(database: Database, monkeypatch: pytest.MonkeyPatch) -> Orders:
    made = Orders(database)
    monkeypatch.setattr(servers, "clock", made.clock)
    return made


def test_one_server_at_a_time_orders_for_a_host_name(orders: Orders) -> None:
    assert orders.begin("a")
    assert not orders.begin("b")
    assert orders.begin("b", "other.example.com")
    orders.end("b")
    assert not orders.begin("b"), "a server ends its own lease only"
    orders.end("a")
    assert orders.begin("b")
    assert not orders.begin("a")


def test_a_lease_ends_by_itself(orders: Orders) -> None:
    assert orders.begin("a")
    orders.now += LEASE - 1
    assert not orders.begin("b")
    orders.now += 1
    assert orders.begin("b")


def test_a_server_that_begins_again_does_not_prolong_its_lease(orders: Orders) -> None:
    assert orders.begin("a")
    orders.now += LEASE - 1
    assert orders.begin("a")
    orders.now += 1
    assert orders.begin("b")
    assert not orders.begin("a")
