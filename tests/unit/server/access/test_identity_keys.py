"""Tests of the keys that sign assertions and challenges."""

import json
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet

from zerotrust.accounts.identity_keys import LIFETIME, LISTED_AROUND
from zerotrust.db import audit
from zerotrust.db.access_tables import ChangeRow
from zerotrust.db.database import Database
from zerotrust.errors import AccessRefused, PkiError, StateError
from zerotrust.server.access import identity_keys as module
from zerotrust.server.access.identity_keys import CHALLENGE_LIFETIME, FOLDER, IdentityKeys

pytestmark = pytest.mark.anyio

DAY = 86400


class Clock:
    """Both clocks of the module, moved by the test."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(module, "monotonic", made)
    return made


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture
async def keys(database: Database, tmp_path: Path, clock: Clock) -> AsyncIterator[IdentityKeys]:
    yield await loaded(database, tmp_path / "one")


async def loaded(database: Database, folder: Path) -> IdentityKeys:
    made = IdentityKeys(database, folder)
    await made.load()
    return made


def kid_of(signed: str | bytes) -> str:
    return str(
        jws.extract_compact(signed if isinstance(signed, bytes) else signed.encode()).headers()[
            "kid"
        ]
    )


async def listed(keys: IdentityKeys) -> list[str]:
    return [key["kid"] for key in (await keys.jwks())["keys"]]


async def test_the_private_half_is_a_file_of_the_owner(keys: IdentityKeys, tmp_path: Path) -> None:
    folder = tmp_path / "one" / FOLDER
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (key,) = (await keys.jwks())["keys"]
    assert file.stem == key["kid"]
    assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}


async def test_assertions_verify_by_the_document(keys: IdentityKeys) -> None:
    signed = keys.sign_assertion({"sub": "u_1"})
    document = json.loads(json.dumps(await keys.jwks()))
    token = jwt.decode(signed, KeySet.import_key_set(document), algorithms=["ES256"])
    assert token.claims == {"sub": "u_1"}


async def test_a_restarted_server_has_the_same_key(
    keys: IdentityKeys, database: Database, tmp_path: Path
) -> None:
    again = await loaded(database, tmp_path / "one")
    assert kid_of(again.sign_assertion({})) == kid_of(keys.sign_assertion({}))
    assert len(await listed(again)) == 1


async def test_each_server_lists_the_keys_of_all(
    keys: IdentityKeys, database: Database, tmp_path: Path, clock: Clock
) -> None:
    other = await loaded(database, tmp_path / "two")
    clock.now += 6
    assert set(await listed(keys)) == set(await listed(other))
    assert len(await listed(keys)) == 2
    assert kid_of(keys.sign_assertion({})) != kid_of(other.sign_assertion({}))


async def test_a_key_is_listed_a_day_before_its_first_use_and_after_its_last(
    keys: IdentityKeys, clock: Clock
) -> None:
    first = kid_of(keys.sign_assertion({}))
    begun = clock.now
    clock.now = begun + LIFETIME - DAY - 1
    await keys.maintain()
    assert await listed(keys) == [first]
    clock.now = begun + LIFETIME - DAY
    await keys.maintain()
    before, second = await listed(keys)
    assert before == first == kid_of(keys.sign_assertion({}))
    clock.now = begun + LIFETIME
    assert kid_of(keys.sign_assertion({})) == second
    clock.now = begun + LIFETIME + LISTED_AROUND
    await keys.maintain()
    assert await listed(keys) == [first, second]
    clock.now += 1
    await keys.maintain()
    assert await listed(keys) == [second]


async def test_the_file_of_a_key_that_is_over_is_removed(
    keys: IdentityKeys, clock: Clock, tmp_path: Path
) -> None:
    for _ in range(40):
        clock.now += 2 * DAY
        await keys.maintain()
    assert len(list((tmp_path / "one" / FOLDER).iterdir())) <= 2


async def test_a_server_that_was_off_for_long_makes_a_key(
    keys: IdentityKeys, database: Database, tmp_path: Path, clock: Clock
) -> None:
    first = kid_of(keys.sign_assertion({}))
    clock.now += LIFETIME + 10 * DAY
    again = await loaded(database, tmp_path / "one")
    assert kid_of(again.sign_assertion({})) != first
    assert first not in await listed(again)


async def test_a_file_without_a_row_is_replaced(
    keys: IdentityKeys, tmp_path: Path, clock: Clock
) -> None:
    """The server was killed between the two writes, or has a new database."""
    database = Database.open(f"sqlite:///{tmp_path / 'new.db'}")
    try:
        again = await loaded(database, tmp_path / "one")
        assert [f"{kid}.pem" for kid in await listed(again)] == [
            file.name for file in (tmp_path / "one" / FOLDER).iterdir()
        ]
    finally:
        database.close()


async def test_a_rotation_is_in_the_audit_log_and_among_the_changes(
    keys: IdentityKeys, database: Database
) -> None:
    with database.transaction() as session:
        (record,) = audit.records(session)
        (change,) = session.query(ChangeRow).all()
    assert (record.action, record.actor) == ("key.rotated", "server")
    assert (change.kind, change.subject) == ("key", kid_of(keys.sign_assertion({})))


async def test_an_unreadable_key_is_an_error_that_names_the_file(
    keys: IdentityKeys, database: Database, tmp_path: Path
) -> None:
    (file,) = (tmp_path / "one" / FOLDER).iterdir()
    file.write_text("no key")
    with pytest.raises(PkiError, match=file.name):
        await loaded(database, tmp_path / "one")


async def test_challenges(
    keys: IdentityKeys, database: Database, tmp_path: Path, clock: Clock
) -> None:
    signed = keys.sign_challenge({"purpose": "register"})
    assert await keys.verify_challenge(signed) == {"purpose": "register"}
    other = await loaded(database, tmp_path / "two")
    assert await other.verify_challenge(signed) == {"purpose": "register"}


async def test_a_challenge_of_a_server_that_has_just_started(
    keys: IdentityKeys, database: Database, tmp_path: Path, clock: Clock
) -> None:
    other = await loaded(database, tmp_path / "two")
    clock.now += 6
    assert await keys.verify_challenge(other.sign_challenge({"a": 1})) == {"a": 1}


async def test_a_challenge_is_good_for_five_minutes(keys: IdentityKeys, clock: Clock) -> None:
    signed = keys.sign_challenge({})
    clock.now += CHALLENGE_LIFETIME
    assert await keys.verify_challenge(signed) == {}
    clock.now += 1
    with pytest.raises(AccessRefused, match="too old"):
        await keys.verify_challenge(signed)


async def test_only_servers_make_challenges(keys: IdentityKeys) -> None:
    own = keys.sign_challenge({})
    stranger = ECKey.generate_key("P-256")
    header = {"alg": "ES256", "typ": "0trust-challenge", "kid": kid_of(own)}
    until = json.dumps({"until": 2_000_000_000}).encode()
    forged = [
        "",
        "a.b.c",
        "é.é.é",
        own[:-4] + "AAAA",
        own + "x" * 5000,
        own.split(".")[0] + "." + own.split(".")[1] + ".",
        jws.serialize_compact(header, until, stranger, algorithms=["ES256"]),
        jws.serialize_compact({**header, "kid": "other"}, until, stranger, algorithms=["ES256"]),
        "eyJhbGciOiJub25lIn0.e30.",
        keys.sign_assertion({"until": 2_000_000_000}).decode(),
    ]
    for text in forged:
        with pytest.raises(AccessRefused):
            await keys.verify_challenge(text)


async def test_a_challenge_is_no_assertion(keys: IdentityKeys) -> None:
    signed = keys.sign_challenge({"sub": "u_1"})
    parsed = jws.extract_compact(signed.encode())
    assert parsed.headers()["typ"] != "JWT"
    assert "exp" not in json.loads(parsed.payload)


async def test_strangers_cause_few_readings(
    keys: IdentityKeys, database: Database, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    readings = 0
    run = database.run

    async def counted(work: object) -> object:
        nonlocal readings
        readings += 1
        return await run(work)  # type: ignore[arg-type]

    monkeypatch.setattr(database, "run", counted)
    for _ in range(100):
        await keys.jwks()
    assert readings == 0
    clock.now += 6
    for _ in range(100):
        await keys.jwks()
    assert readings == 1


async def test_known_keys_outlive_the_database(
    keys: IdentityKeys, database: Database, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    async def lost(_: object) -> None:
        raise StateError("the database is away")

    monkeypatch.setattr(database, "run", lost)
    clock.now += 40 * DAY
    assert await listed(keys) == [kid_of(keys.sign_assertion({}))]
    assert await keys.verify_challenge(keys.sign_challenge({})) == {}
