"""Tests of zerotrust.server.identity.membership, on both databases."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.waiting import eventually
from zerotrust.db import servers
from zerotrust.db.database import Database
from zerotrust.db.servers import LEASE
from zerotrust.errors import StateError
from zerotrust.server.identity import membership
from zerotrust.server.identity.membership import FILE, Members, Membership, load_server_id

pytestmark = pytest.mark.anyio


class Edge:
    """Servers that share a database, and its clock."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._opened = contextlib.ExitStack()
        self.now = 1000
        self.told: list[list[str]] = []

    def clock(self, _session: object) -> int:
        return self.now

    def server(self, name: str, *, address: str | None = "", renews: bool = True) -> Membership:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        database = Database.open(self._url)
        self._opened.callback(database.close)

        def changed(members: Members) -> None:
            self.told.append([one.address for one in members])

        found = f"{name}.example.com:8443" if address == "" else address
        return Membership(
            database,
            load_server_id(folder),
            address=found,
            renews=renews,
            changed=changed,
            clock=lambda: self.now,
        )

    def close(self) -> None:
        self._opened.close()


@pytest.fixture
def edge(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    made = Edge(url, tmp_path)
    monkeypatch.setattr(servers, "clock", made.clock)
    yield made
    made.close()


def names(server: Membership) -> set[str]:
    return {one.address.partition(".")[0] for one in server.members}


async def test_servers_know_each_other_until_one_is_killed(edge: Edge) -> None:
    a, b = edge.server("a"), edge.server("b")
    await a.look()
    await b.look()
    await a.look()
    assert names(a) == names(b) == {"a", "b"}
    for seconds in (7, 7):
        edge.now += seconds
        await a.look()
    assert names(a) == {"a", "b"}
    edge.now += 1
    with capture_logs() as logs:
        await a.look()
    assert names(a) == {"a"}
    assert [log["event"] for log in logs] == ["server gone"]
    assert len(edge.told) == 4, "only what has changed is told"


async def test_a_server_without_an_address_is_not_announced(edge: Edge) -> None:
    a, b = edge.server("a"), edge.server("b", address=None)
    await a.look()
    await b.look()
    assert names(b) == {"a"}
    b.reconfigure("b.example.com:1")
    await b.look()
    assert names(b) == {"a", "b"}
    b.reconfigure(None)
    await b.look()
    assert names(b) == {"a"}


async def test_one_worker_renews_the_lease_of_all(edge: Edge) -> None:
    first, second = edge.server("a"), edge.server("a", renews=False)
    assert first.server_id == second.server_id
    await second.look()
    assert second.members == ()
    await first.look()
    await second.look()
    assert names(second) == {"a"}
    second.reconfigure(None)
    await second.look()
    await first.look()
    assert names(first) == {"a"}


async def test_after_a_time_without_database_nobody_is_forgotten_at_once(edge: Edge) -> None:
    a, b = edge.server("a"), edge.server("b")
    await b.look()
    await a.look()
    edge.now += 60
    await a.look()
    assert names(a) == {"a", "b"}
    for _ in range(3):
        edge.now += LEASE // 3
        await a.look()
    assert names(a) == {"a"}


async def test_it_looks_again_and_again_and_says_once_that_it_cannot(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "RENEW_EACH", 0.01)
    a, b = edge.server("a"), edge.server("b")
    await a.look()
    following = asyncio.create_task(a.follow())
    try:
        await b.look()
        await eventually(lambda: names(a) == {"a", "b"}, "the other one is seen")
        failed = 0

        async def run(*_: object) -> None:
            nonlocal failed
            failed += 1
            raise StateError("away")

        with capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(Database, "run", run)
            await eventually(lambda: failed > 2, "it tries")
            assert [log["reason"] for log in logs] == ["away"]
            assert names(a) == {"a", "b"}
        assert not following.done()
    finally:
        following.cancel()


async def test_two_servers_with_one_address_or_one_id_are_named(edge: Edge) -> None:
    a, b = edge.server("a"), edge.server("b", address="a.example.com:8443")
    with capture_logs() as logs:
        await a.look()
        for _ in range(2):
            await b.look()
    assert [log["event"].partition(":")[0] for log in logs if log["log_level"] == "error"] == [
        "another server announces the address of this one"
    ]
    copy = edge.server("a", address="copy.example.com:1")
    with capture_logs() as logs:
        for _ in range(2):
            await copy.look()
            await a.look()
    assert {log["other"] for log in logs if "the id of this one" in log["event"]} == {
        "a.example.com:8443",
        "copy.example.com:1",
    }


def test_the_id_of_a_server_stays(tmp_path: Path) -> None:
    file = tmp_path / FILE
    made = load_server_id(tmp_path)
    assert load_server_id(tmp_path) == made
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("short")
    with pytest.raises(StateError, match="no id"):
        load_server_id(tmp_path)
    with pytest.raises(StateError, match="cannot write"):
        load_server_id(tmp_path / "missing")
    file.unlink()
    file.mkdir()
    with pytest.raises(StateError, match="directory"):
        load_server_id(tmp_path)
