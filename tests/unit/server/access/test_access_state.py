"""Tests of zerotrust.server.access.access_state: several servers, time, and load."""

import asyncio
import contextlib
import gc
import secrets
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from tests.conftest import Measured
from tests.support.databases import Cluster, migrated_sqlite
from tests.support.people import CHALLENGE, HOST, VERIFIER, Store, Stores, access, stores
from tests.support.waiting import eventually
from zerotrust.access.subject import ACCESS_WITHDRAWN, SESSION_ENDED, SIGNED_OUT, CredentialKind
from zerotrust.accounts import changes
from zerotrust.db import change_watch
from zerotrust.db.access_tables import (
    ChangeRow,
    HandOverRow,
    PassRow,
    ShareLinkRow,
    SignInRow,
    SpentRow,
    UserRow,
)
from zerotrust.errors import AccessRefused, StateError
from zerotrust.server.access import access_state as module
from zerotrust.server.access.access_state import AccessState

pytestmark = pytest.mark.anyio


@pytest.fixture
def shared(postgresql: Cluster) -> Iterator[Stores]:
    """Servers that share a PostgreSQL database."""
    with stores(postgresql.migrated()) as made:
        yield made


@contextlib.asynccontextmanager
async def following(*servers: Store) -> AsyncIterator[None]:
    tasks = [asyncio.get_running_loop().create_task(server.state.follow()) for server in servers]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# ---- several servers


@pytest.mark.slow
@pytest.mark.xdist_group("postgresql")
async def test_another_server_follows(shared: Stores) -> None:
    first, second = await shared.start(), await shared.start()
    key = await first.passkey("anna")
    async with following(second):
        sign_in = (await first.sign_in(key)).credential
        made = await first.enter(sign_in)
        await eventually(
            lambda: second.state.index.find(made.digest) is not None, "the pass at the other server"
        )
        there = second.state.index.find(made.digest)
        assert there is not None
        assert there.subject.name == "anna"
        await first.people.add_to_group("family", "anna", actor="uid 0")
        await eventually(lambda: there.subject.groups == {"family"}, "the new group there")
        await first.people.disable("anna", actor="uid 0")
        await first.people.enable("anna", actor="uid 0")
        await eventually(lambda: there.ended == ACCESS_WITHDRAWN, "the end there")
        assert second.notified == 2
        again = (await first.sign_in(key)).credential
        await eventually(
            lambda: second.state.index.find(again.digest) is not None, "the second sign-in there"
        )
        await first.sign_ins.sign_out(again, everywhere=False)
        await eventually(
            lambda: (
                (found := second.state.index.find(again.digest)) is not None
                and found.ended == SIGNED_OUT
            ),
            "the sign-out there",
        )


@pytest.mark.large
@pytest.mark.slow
@pytest.mark.xdist_group("postgresql")
@pytest.mark.timeout(90)
async def test_hundreds_of_hand_overs_on_one_server_are_accepted_on_another(
    shared: Stores,
) -> None:
    first, second = await shared.start(), await shared.start()
    sign_in = (await first.sign_in(await first.passkey("anna"))).credential
    for number in range(300):
        code = await first.sign_ins.hand_over(
            sign_in, host=f"{number}.example.com", challenge=CHALLENGE, target="/"
        )
        made = await second.sign_ins.accept_hand_over(
            code, host=f"{number}.example.com", verifier=VERIFIER
        )
        assert second.state.index.find(made.credential.digest) is made.credential
    await first.state.catch_up()
    assert len(first.state.index) == 301


@pytest.mark.slow
@pytest.mark.xdist_group("postgresql")
async def test_an_unknown_credential_is_read_once_for_all_who_ask(
    shared: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await shared.start(), await shared.start()
    key = await first.passkey("anna")
    readings = 0
    run = second.database.run

    async def counted(work: object) -> object:
        nonlocal readings
        readings += 1
        return await run(work)  # type: ignore[arg-type]

    monkeypatch.setattr(second.database, "run", counted)
    made = (await first.sign_in(key)).credential
    await asyncio.gather(*(second.state.catch_up() for _ in range(100)))
    assert second.state.index.find(made.digest) is not None
    assert readings == 1
    # A request that comes while a reading runs may be about something later.
    task = asyncio.get_running_loop().create_task(second.state.catch_up())
    await eventually(lambda: readings == 2, "the second reading")
    made = (await first.sign_in(key)).credential
    await second.state.catch_up()
    assert second.state.index.find(made.digest) is not None
    await task
    begun = time.monotonic()
    for _ in range(5):
        await second.state.catch_up()
    assert time.monotonic() - begun >= 4 * module.CATCH_UP_EACH


async def test_with_sqlite_unknown_is_unknown(store: Store) -> None:
    before = store.state.index.find(b"x")
    await store.state.catch_up()
    assert store.state.index.find(b"x") is before is None


@pytest.mark.slow
@pytest.mark.xdist_group("postgresql")
async def test_a_server_that_missed_changes_reads_everything(shared: Stores) -> None:
    first, second = await shared.start(), await shared.start()
    key = await first.passkey("anna")
    sign_in = (await first.sign_in(key)).credential
    await second.state.catch_up()
    there = second.state.index.find(sign_in.digest)
    assert there is not None
    await first.sign_ins.sign_out(sign_in, everywhere=False)
    again = (await first.sign_in(key)).credential
    shared.clock.now += changes.KEPT + 1
    with first.database.transaction() as session:
        changes.forget(session, before=int(shared.clock.now) - changes.KEPT)
        assert session.scalar(select(func.count()).select_from(ChangeRow)) == 1
    await second.state.catch_up()
    assert there.ended
    assert second.state.index.find(again.digest) is not None


@pytest.mark.slow
@pytest.mark.xdist_group("postgresql")
async def test_a_rolled_back_number_hides_no_later_change(shared: Stores) -> None:
    first, second = await shared.start(), await shared.start()
    key = await first.passkey("anna")
    with pytest.raises(LookupError), first.database.transaction() as session:
        changes.add(session, changes.USER, "x", now=1)
        raise LookupError
    sign_in = (await first.sign_in(key)).credential
    await second.state.catch_up()
    assert second.state.index.find(sign_in.digest) is not None


@pytest.mark.slow
@pytest.mark.xdist_group("postgresql")
async def test_a_server_that_cannot_read_is_blind_after_a_while(
    shared: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "POLL_EACH", 0.01)
    server = await shared.start()
    key = await server.passkey("anna")
    sign_in = (await server.sign_in(key)).credential
    run = server.database.run

    readings = 0

    async def lost(work: object) -> object:
        nonlocal readings
        readings += 1
        raise StateError("the connection was lost")

    with capture_logs() as logs:
        async with following(server):
            monkeypatch.setattr(server.database, "run", lost)
            await server.state.catch_up()
            await eventually(
                lambda: [log["log_level"] for log in logs] == ["debug", "error"], "the log line"
            )
            shared.clock.now += 890
            before = readings
            await eventually(lambda: readings >= before + 2, "two more readings")
            assert not server.state.blind
            shared.clock.now += 20
            await eventually(lambda: server.state.blind, "blindness")
            with pytest.raises(StateError):
                await server.sign_in(key)
            monkeypatch.setattr(server.database, "run", run)
            await eventually(lambda: not server.state.blind, "sight")
    assert not sign_in.ended
    assert [log["log_level"] for log in logs] == ["debug", "error", "error"]


async def test_a_sqlite_server_is_never_blind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "POLL_EACH", 0.01)
    with stores(migrated_sqlite(tmp_path / "state.db")) as servers:
        store = await servers.start()
        turns, touch = 0, store.state.touch

        async def counted() -> None:
            nonlocal turns
            await touch()
            turns += 1

        monkeypatch.setattr(store.state, "touch", counted)
        async with following(store):
            store.clock.now += 86400
            await eventually(lambda: turns == 1, "the first turn")
            store.clock.now += 86400
            await eventually(lambda: turns == 2, "the second turn")
            assert not store.state.blind


@pytest.mark.slow
@pytest.mark.xdist_group("postgresql")
async def test_what_is_used_at_one_server_is_not_idle_at_another(shared: Stores) -> None:
    first = await shared.start(sessions={"idle": "1h"})
    second = await shared.start(sessions={"idle": "1h"})
    sign_in = (await first.sign_in(await first.passkey("anna"))).credential
    await second.state.catch_up()
    there = second.state.index.find(sign_in.digest)
    assert there is not None
    for _ in range(100):
        shared.clock.now += 60
        sign_in.seen_at = shared.clock.now
        await first.state.touch()
        await second.state.touch()
    assert not there.end_reason(shared.clock.now)
    assert there.seen_at == sign_in.seen_at


# ---- decisions


async def test_a_caller_that_is_cancelled_stops_no_decision(store: Store) -> None:
    key = await store.passkey("anna")
    sign_in = (await store.sign_in(key)).credential
    task = asyncio.get_running_loop().create_task(
        store.sign_ins.sign_out(sign_in, everywhere=False)
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: sign_in.ended == SIGNED_OUT, "the sign-out")


async def test_decisions_are_applied_in_their_order(store: Store) -> None:
    key = await store.passkey("anna")
    await asyncio.gather(
        *(
            change("family", "anna", actor="uid 0")
            for _ in range(20)
            for change in (store.people.add_to_group, store.people.remove_from_group)
        ),
        store.people.add_to_group("last", "anna", actor="uid 0"),
    )
    assert (await store.sign_in(key)).credential.subject.groups == {"last"}


async def test_shorter_lifetimes_apply_at_once(servers: Stores) -> None:
    store = await servers.start(sessions={"lifetime": "7d"})
    sign_in = (await store.sign_in(await store.passkey("anna"))).credential
    made = await store.enter(sign_in)
    store.clock.now += 3600
    await store.state.reconfigure(access(sessions={"lifetime": "1h"}))
    assert made.end_reason(store.clock.now) == SESSION_ENDED
    await store.state.touch()
    again = await servers.start()
    assert len(again.state.index) == 0


async def test_a_full_index_ends_the_oldest_passes_of_strangers_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CREDENTIALS", 8)
    monkeypatch.setattr(module, "MAKE_ROOM", 2)
    sign_in = (await store.sign_in(await store.passkey("anna"))).credential
    mine = [await store.enter(sign_in, f"{number}.example.com") for number in range(3)]
    await store.links.set_pin(HOST, "123456", actor="uid 0")
    theirs = [
        (await store.links.enter_pin(HOST, "123456", browser=store.browser())).credential
        for _ in range(5)
    ]
    assert [made.ended for made in mine] == [""] * 3
    assert [bool(made.ended) for made in theirs] == [True, True, False, False, False]
    assert len(store.state.index) <= 8


# ---- time


async def test_finished_rows_are_forgotten_and_ended_sign_ins_kept_for_a_month(
    store: Store,
) -> None:
    key = await store.passkey("anna")
    sign_in = (await store.sign_in(key)).credential
    await store.enter(sign_in)
    link = await store.links.create(
        f"https://{HOST}/",
        lifetime=3600,
        uses=None,
        pin=None,
        methods=[],
        created_by="uid 0",
        actor="uid 0",
    )
    await store.links.use(link.url.partition("#")[2], host=HOST, pin=None, browser=store.browser())
    await store.sign_ins.sign_out(sign_in, everywhere=False)

    def rows() -> dict[str, int]:
        tables = (SignInRow, PassRow, HandOverRow, SpentRow, ShareLinkRow, ChangeRow)
        with store.database.transaction() as session:
            return {
                table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
                for table in tables
            }

    assert rows().keys() == {
        "sign_ins",
        "passes",
        "hand_overs",
        "spent",
        "share_links",
        "changes",
    }
    store.clock.now += 7200
    await store.state.touch()
    await store.state.touch()
    assert rows() == {
        "sign_ins": 1,
        "passes": 0,
        "hand_overs": 0,
        "spent": 0,
        "share_links": 0,
        "changes": 1,
    }
    assert store.state.index.find(sign_in.digest) is None
    store.clock.now += 30 * 86400
    await store.state.touch()
    assert rows()["sign_ins"] == 0


async def test_follow_touches_once_a_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_watch, "POLL_EACH", 0.01)
    sign_in = (await store.sign_in(await store.passkey("anna"))).credential

    def seen() -> int | None:
        with store.database.transaction() as session:
            return session.scalar(select(SignInRow.seen_at))

    async with following(store):
        store.clock.now += 61
        sign_in.seen_at = store.clock.now
        await eventually(lambda: seen() == store.clock.now, "the last use in the database")


# ---- load


def fill(session: Session, *, users: int, sign_ins: int, passes: int, now: int) -> None:
    """Insert rows: each user has sign-ins, each of these passes."""
    people = [
        {
            "id": f"u_{number}",
            "name": f"user-{number}",
            "created_at": now,
            "shown_name": "",
            "source": "database",
        }
        for number in range(users)
    ]
    session.execute(insert(UserRow), people)
    rows = [
        {
            "number": number + 1,
            "digest": secrets.token_bytes(32),
            "user_id": f"u_{number % users}",
            "method": "passkey",
            "created_at": now,
            "proven_at": now,
            "seen_at": now,
            "ends_at": now + 86400,
            "provider": "",
            "provider_subject": "",
            "provider_session": "",
            "why": "",
            "client": "192.0.2.1",
            "browser": "Firefox",
        }
        for number in range(sign_ins)
    ]
    session.execute(insert(SignInRow), rows)
    made = [
        {
            "number": number + 1,
            "digest": secrets.token_bytes(32),
            "host": f"app-{number % 50}.example.com",
            "kind": "sign_in",
            "created_at": now,
            "ends_at": now + 86400,
            "sign_in": number % sign_ins + 1,
        }
        for number in range(passes)
    ]
    session.execute(insert(PassRow), made)
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("ANALYZE"))


@pytest.mark.large
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_passes_take_a_kibibyte_each_at_most(servers: Stores, measured: Measured) -> None:
    store = await servers.start()
    now = int(servers.clock.now)
    with store.database.transaction() as session:
        fill(session, users=600, sign_ins=3_000, passes=27_000, now=now)
    gc.collect()
    begun, begun_at = time.process_time(), time.perf_counter()
    await store.state.load()
    took, waited = time.process_time() - begun, time.perf_counter() - begun_at
    assert len(store.state.index) == 30_000
    tracemalloc.start()
    state = AccessState(store.database, access(), clock=servers.clock)
    await state.load()
    gc.collect()
    each = tracemalloc.get_traced_memory()[0] / 30_000
    tracemalloc.stop()
    kind = "PostgreSQL" if store.database.shared else "SQLite"
    measured(
        f"{kind}: 30,000 credentials load in {waited:.2f} s"
        f" ({took:.2f} s of the processor), {each:.0f} bytes each"
    )
    assert each <= 1024
    begun = time.perf_counter()
    await store.state.reconfigure(access())
    measured(f"{kind}: reconfigured in {time.perf_counter() - begun:.2f} s")


@pytest.mark.large
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_ten_thousand_passes_end_quickly(servers: Stores, measured: Measured) -> None:
    store = await servers.start()
    now = int(servers.clock.now)
    with store.database.transaction() as session:
        fill(session, users=2, sign_ins=200, passes=20_000, now=now)
    await store.state.load()
    begun, begun_at = time.process_time(), time.perf_counter()
    assert await store.people.disable("user-1", actor="uid 0") == 100
    took, waited = time.process_time() - begun, time.perf_counter() - begun_at
    ended = [found for found in store.state.index.all() if found.ended]
    assert len(ended) == 10_100
    assert store.notified == 1
    measured(f"10,000 passes of a user ended in {waited:.2f} s ({took:.2f} s of the processor)")
    assert took < 0.5
    assert len(store.state.index.of_kind(CredentialKind.PASS)) == 10_000


async def test_a_refused_decision_leaves_only_its_record(store: Store) -> None:
    await store.passkey("anna")
    with pytest.raises(AccessRefused):
        await store.sign_in(b"unknown")
    with store.database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(SpentRow)) == 0
    assert store.actions()[-1] == "sign_in.refused"


async def test_a_configuration_reaches_a_database_that_comes_back(
    servers: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "POLL_EACH", 0.01)
    store = await servers.start(users=[{"name": "anna"}])
    await store.passkey("ben")
    sign_in = (await store.sign_in(await store.passkey("anna"))).credential
    run = store.database.run

    async def lost(work: object) -> object:
        raise StateError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store.database, "run", lost)
        with pytest.raises(StateError):
            await store.state.reconfigure(access())
    assert store.database.run == run
    assert sign_in.ended == ACCESS_WITHDRAWN
    async with following(store):
        await eventually(lambda: "access.changed" in store.actions(), "the change in the audit")
    assert "session.ended" in store.actions()


async def test_what_runs_is_finished_before_the_end(store: Store) -> None:
    sign_in = (await store.sign_in(await store.passkey("anna"))).credential
    store.clock.now += 60
    sign_in.seen_at = store.clock.now
    task = asyncio.get_running_loop().create_task(
        store.people.add_to_group("family", "anna", actor="uid 0")
    )
    await asyncio.sleep(0)
    task.cancel()
    await store.state.close()
    assert sign_in.subject.groups == {"family"}
    with store.database.transaction() as session:
        assert session.scalar(select(SignInRow.seen_at)) == store.clock.now


async def test_passkeys_that_another_domain_makes_unusable_are_told(servers: Stores) -> None:
    """At a reload and at each start, because browsers forget no passkey and say nothing."""
    store = await servers.start()
    for name in ("anna", "ben"):
        await store.passkey(name)
    with capture_logs() as lines:
        await store.state.reconfigure(access(sessions={"idle": "1d"}))
        await servers.start()
        assert lines == []
        await store.state.reconfigure(access(passkey_domain="example.com"))
        await servers.start(passkey_domain="example.com")
    assert [(line["passkeys"], line["domain"]) for line in lines] == [(2, "example.com")] * 2
