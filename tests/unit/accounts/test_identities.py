"""Tests of zerotrust.accounts.identities."""

import pytest
from sqlalchemy import select

from zerotrust.accounts import identities
from zerotrust.accounts.identities import MAX_GROUPS, AccountFacts
from zerotrust.db.access_tables import ChangeRow, IdentityRow
from zerotrust.db.database import Database


def user_name(database: Database, **facts: object) -> str:
    account = AccountFacts(provider="main", **facts)  # type: ignore[arg-type]
    with database.transaction() as session:
        return identities.user_of(session, account, now=7).name


@pytest.mark.parametrize(
    ("email", "verified", "name"),
    [
        ("eve@example.com", True, "main/eve@example.com"),
        ("eve@example.com", False, "main/7-7"),
        (None, True, "main/7-7"),
    ],
)
def test_a_new_user_is_named_after_a_verified_address_or_the_subject(
    database: Database, email: str | None, verified: bool, name: str
) -> None:
    assert user_name(database, subject="7-7", email=email, email_verified=verified) == name


def test_names_that_are_taken_or_unprintable_are_replaced(database: Database) -> None:
    email = {"email": "eve@example.com", "email_verified": True}
    first = user_name(database, subject="1", **email)
    second = user_name(database, subject="2", **email)
    assert first != second
    assert second.startswith("main/")
    assert user_name(database, subject="1", **email) == first
    strange = user_name(database, subject="\x1b[31m é" + "x" * 100)
    assert strange.isascii()
    assert len(strange) <= 64


def test_what_has_not_changed_is_no_change(database: Database) -> None:
    user_name(database, subject="1", groups=("a",))
    user_name(database, subject="1", groups=("a",))
    with database.transaction() as session:
        before = len(list(session.scalars(select(ChangeRow))))
    user_name(database, subject="1", groups=("a", "b"))
    with database.transaction() as session:
        assert len(list(session.scalars(select(ChangeRow)))) == before + 1


def test_groups_are_bounded(database: Database) -> None:
    user_name(database, subject="1", groups=(*map(str, range(5000)), "x" * 256, ""))
    with database.transaction() as session:
        [groups] = session.scalars(select(IdentityRow.groups))
    assert len(groups) == MAX_GROUPS
