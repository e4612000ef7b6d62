"""Tests of zerotrust.server.ops.certificate_orders, on both databases."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.caddy_storage import store_certificate
from tests.support.waiting import eventually
from zerotrust.db import certificate_orders as rows
from zerotrust.db.database import Database
from zerotrust.net.tasks import Tasks
from zerotrust.server.ops import certificate_orders
from zerotrust.server.ops.certificate_orders import CertificateOrders

pytestmark = pytest.mark.anyio

HOST = "app.example.com"
DAY = 24 * 3600.0


class Member:
    """A member with a Caddy, and its decisions."""

    def __init__(self, name: str, url: str, folder: Path) -> None:
        self.storage: Path | None = folder / name
        self.database = Database.open(url)
        self.tasks = Tasks()
        self.others = ["another one"]
        self.abandoned = False
        self.decisions: list[bool] = []
        self.orders = CertificateOrders(
            self.database,
            name,
            self.tasks,
            others=lambda: self.others,
            storage=lambda: self.storage,
        )

    def ask(self) -> None:
        self.orders.ask(HOST, self.decisions.append, lambda: self.abandoned)

    async def decided(self) -> bool:
        await eventually(lambda: self.decisions, "it is decided")
        return self.decisions.pop()

    def get_certificate(self, *, age: float = 0.0, lifetime: float = 90 * DAY) -> None:
        assert self.storage is not None
        begins = time.time() - age
        store_certificate(self.storage, HOST, begins=begins, ends=begins + lifetime)


@pytest.fixture
async def members(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Member, Member]]:
    monkeypatch.setattr(certificate_orders, "EACH", 0.01)
    made = Member("a", url, tmp_path), Member("b", url, tmp_path)
    yield made
    for member in made:
        await member.tasks.close()
        member.database.close()


async def test_the_second_one_waits_until_the_first_has_its_certificate(
    members: tuple[Member, Member],
) -> None:
    first, second = members
    first.ask()
    assert await first.decided()
    second.ask()
    first.get_certificate()
    assert await second.decided()
    assert not first.tasks.running, "it has ended its lease"
    second.get_certificate()
    await eventually(lambda: not second.tasks.running, "its lease has ended")
    assert not first.orders.needs_turn(HOST)


async def test_the_same_member_may_ask_again(members: tuple[Member, Member]) -> None:
    first, _ = members
    for _ in range(2):
        first.ask()
        assert await first.decided()


async def test_a_turn_that_does_not_come_is_refused_for_now(
    members: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = members
    monkeypatch.setattr(certificate_orders, "PATIENCE", 0.05)
    first.ask()
    assert await first.decided()
    second.ask()
    assert not await second.decided()
    second.get_certificate(age=80 * DAY)
    second.ask()
    assert await second.decided(), "Caddy would drop a certificate whose renewal is refused"


async def test_a_question_that_is_abandoned_takes_no_turn(members: tuple[Member, Member]) -> None:
    first, second = members
    first.abandoned = True
    first.ask()
    await eventually(lambda: not first.tasks.running, "it has given its turn back")
    second.ask()
    assert await second.decided()
    first.ask()
    await eventually(lambda: not first.tasks.running, "it waits no longer")
    assert first.decisions == []


@pytest.mark.slow
async def test_the_lease_of_an_order_that_fails_ends_by_itself(
    members: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = members
    monkeypatch.setattr(rows, "LEASE", 1)
    monkeypatch.setattr(certificate_orders, "LEASE", 1)
    first.ask()
    assert await first.decided()
    second.ask()
    assert await second.decided()
    await eventually(lambda: not first.tasks.running, "it is not followed any more")


async def test_what_needs_no_turn(members: tuple[Member, Member]) -> None:
    first, _ = members
    assert first.orders.needs_turn(HOST)
    assert not first.orders.needs_turn("app.localhost"), "Caddy certifies it itself"
    first.get_certificate(age=80 * DAY)
    assert first.orders.needs_turn(HOST), "it may be renewed now"
    first.get_certificate(age=10 * DAY)
    assert not first.orders.needs_turn(HOST)
    first.storage = None
    assert not first.orders.needs_turn(HOST), "nothing says when the order ends"


async def test_alone_no_member_waits(members: tuple[Member, Member]) -> None:
    first, second = members
    first.ask()
    assert await first.decided()
    second.ask()
    second.others.clear()
    assert await second.decided()


async def test_orders_go_on_without_the_database(members: tuple[Member, Member]) -> None:
    first, _ = members
    first.database.close()
    first.ask()
    assert await first.decided()


async def test_members_that_share_a_folder_wait_for_the_certificate(
    members: tuple[Member, Member],
) -> None:
    first, second = members
    second.storage = first.storage
    first.ask()
    assert await first.decided()
    second.ask()
    first.get_certificate()
    assert await second.decided()
