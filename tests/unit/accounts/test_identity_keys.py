"""Tests of the transactions on public keys."""

from zerotrust.accounts.identity_keys import (
    LISTED_AROUND,
    PublicIdentityKey,
    add_key,
    listed_keys,
)
from zerotrust.db.database import Database


def key(kid: str, *, begins_at: int, ends_at: int) -> PublicIdentityKey:
    jwk = {"kty": "EC", "crv": "P-256", "x": kid, "y": "y"}
    return PublicIdentityKey(kid=kid, server="s", jwk=jwk, begins_at=begins_at, ends_at=ends_at)


def test_keys_are_listed_until_a_day_after_their_last_use(database: Database) -> None:
    old, new = key("b", begins_at=0, ends_at=100), key("a", begins_at=100, ends_at=10**6)
    with database.transaction() as session:
        add_key(session, new, now=10)
        add_key(session, old, now=10)
    with database.transaction() as session:
        assert listed_keys(session, now=100 + LISTED_AROUND) == [old, new]
        assert listed_keys(session, now=101 + LISTED_AROUND) == [new]


def test_adding_a_key_removes_those_that_are_over(database: Database) -> None:
    with database.transaction() as session:
        add_key(session, key("old", begins_at=0, ends_at=100), now=10)
        add_key(session, key("new", begins_at=0, ends_at=10**6), now=101 + LISTED_AROUND)
        assert [row.kid for row in listed_keys(session, now=0)] == ["new"]
