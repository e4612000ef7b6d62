"""Tests of zerotrust.server.access.subjects."""

import dataclasses
from typing import Any

from tests.support.people import access
from zerotrust.accounts.live_state import Account, KnownUser
from zerotrust.server.access.subjects import EVERY_PROVIDER, Subjects

GOOGLE = Account("google", "anna@gmail.example", "Anna G", ("ops", "a/b"), {"hd": "x"})
MAIN = Account("main", None, "Anna M", ("dev",), {})


PROVIDERS = {
    name: {"issuer": f"https://{name}.example", "client_id": "0trust"}
    for name in ("google", "main", "evil")
}


def anna(**changes: Any) -> KnownUser:
    values: dict[str, Any] = {
        "id": "u_1",
        "name": "anna",
        "email": None,
        "shown_name": "",
        "source": "database",
        "disabled": False,
        "groups": frozenset({"friends"}),
        "accounts": (GOOGLE, MAIN),
        **changes,
    }
    return KnownUser(**values)


def test_a_subject_has_what_the_way_of_signing_in_proves() -> None:
    filed = {"name": "anna", "email": "anna@example.com", "groups": ["family"]}
    subjects = Subjects(access(users=[filed], identity_providers=PROVIDERS))
    subjects.put(anna())
    key, google = subjects.of("u_1", ""), subjects.of("u_1", "google")
    assert key is subjects.of("u_1", "")
    assert key is not None
    assert google is not None
    assert key.groups == {"friends", "family"}
    assert key.emails == {"anna@example.com"}
    assert (key.provider, key.claims, key.shown_name) == ("", {}, "anna")
    assert google.groups == {"friends", "family", "google/ops", "google/a/b"}
    assert google.emails == {"anna@example.com", "anna@gmail.example"}
    assert google.email == "anna@example.com"
    assert (google.provider, google.claims, google.shown_name) == ("google", {"hd": "x"}, "Anna G")
    owner = subjects.of("u_1", EVERY_PROVIDER)
    assert owner is not None
    assert owner.groups == google.groups | {"main/dev"}
    assert (owner.provider, owner.claims) == ("", {})
    assert subjects.of("u_2", "") is None
    assert (subjects.name("u_1"), subjects.name("u_2")) == ("anna", "")


def test_a_provider_cannot_name_a_local_group() -> None:
    subjects = Subjects(access(identity_providers=PROVIDERS))
    hostile = Account("evil", None, "", ("../admins", "/admins", "admins"), {})
    subjects.put(anna(groups=frozenset(), accounts=(hostile,)))
    subject = subjects.of("u_1", "evil")
    assert subject is not None
    assert all(group.startswith("evil/") for group in subject.groups)


def test_users_are_active_unless_disabled_or_gone_from_the_file() -> None:
    subjects = Subjects(access(users=[{"name": "anna"}]))
    subjects.put(anna(source="file"))
    assert subjects.is_active("u_1")
    before = subjects.of("u_1", "")
    subjects.reconfigure(access())
    assert not subjects.is_active("u_1")
    subjects.put(anna())
    assert subjects.is_active("u_1")
    assert subjects.of("u_1", "") == before
    assert before is not None
    assert dataclasses.replace(before) == before
    subjects.put(anna(disabled=True))
    assert not subjects.is_active("u_1")
    subjects.remove("u_1")
    assert not subjects.is_active("u_1")
    assert subjects.ids() == []


def test_what_a_removed_provider_has_said_no_longer_counts() -> None:
    """Apps outlive the sign-ins of their owners; nobody asks the provider about them any more."""
    subjects = Subjects(access(identity_providers=PROVIDERS))
    subjects.put(anna())
    subjects.reconfigure(access(identity_providers={"main": PROVIDERS["main"]}))
    owner = subjects.of("u_1", EVERY_PROVIDER)
    assert owner is not None
    assert owner.groups == {"friends", "main/dev"}
    assert owner.emails == frozenset()
    assert owner.shown_name == "Anna M"
