"""Tests of zerotrust.server.access.access_tokens."""

import pytest

from tests.support.people import Store, Stores, access
from zerotrust.access.secret_format import digest_of, is_secret
from zerotrust.access.subject import ACCESS_WITHDRAWN, SESSION_ENDED, CredentialKind, SubjectKind
from zerotrust.errors import AccessError, UserUnknown
from zerotrust.server.access.people import ProviderAccount

pytestmark = pytest.mark.anyio


async def test_a_machine_has_a_token_until_it_is_revoked(servers: Stores) -> None:
    store = await servers.start()
    made = await store.tokens.create_machine(
        "frame", hosts=["Photos.example.com", "*.lab.example.com"], lifetime=None, actor="uid 0"
    )
    assert is_secret(made.secret, "0t_m_")
    assert made.secret not in repr(made)
    again = await servers.start()
    for server in (store, again):
        token = server.state.index.find(digest_of(made.secret.encode()))
        assert token is not None
        assert token.kind is CredentialKind.TOKEN
        assert (token.subject.kind, token.subject.id) == (SubjectKind.MACHINE, "machine:frame")
        assert token.hosts == ("photos.example.com", "*.lab.example.com")
        assert token.end_reason(store.clock.now + 1e9) == ""
    with pytest.raises(AccessError, match="rotate"):
        await store.tokens.create_machine("frame", hosts=[], lifetime=None, actor="uid 0")
    assert await store.tokens.revoke("frame", kind="machine", actor="uid 0") == 1
    with pytest.raises(UserUnknown):
        await store.tokens.revoke("frame", kind="machine", actor="uid 0")
    found = store.state.index.find(digest_of(made.secret.encode()))
    assert found is not None
    assert found.ended == ACCESS_WITHDRAWN
    assert store.actions() == ["machine.created", "machine.revoked"]
    assert await store.tokens.listed("machine") == []


async def test_a_token_for_the_admin_api_stays_one_when_it_is_rotated(servers: Stores) -> None:
    store = await servers.start()
    plain = await store.tokens.create_machine("frame", hosts=[], lifetime=None, actor="uid 0")
    made = await store.tokens.create_machine(
        "backup", hosts=[], lifetime=None, admin=True, actor="uid 0"
    )
    rotated = await store.tokens.rotate("backup", kind="machine", keep=60.0, actor="uid 0")
    again = await servers.start()
    for server in (store, again):
        for issued, admin in ((plain, False), (made, True), (rotated, True)):
            token = server.state.index.find(digest_of(issued.secret.encode()))
            assert token is not None and token.admin is admin


@pytest.mark.parametrize(
    ("name", "hosts", "lifetime"),
    [
        ("", [], None),
        ("a b", [], None),
        ("x" * 65, [], None),
        ("x", ["not a host"], None),
        ("x", ["a.example"] * 101, None),
        ("x", [], 0.5),
        ("x", [], 1e12),
    ],
)
async def test_what_is_invalid_is_refused(
    store: Store, name: str, hosts: list[str], lifetime: float | None
) -> None:
    with pytest.raises(AccessError):
        await store.tokens.create_machine(name, hosts=hosts, lifetime=lifetime, actor="uid 0")
    assert await store.tokens.listed("machine") == []


async def test_two_tokens_overlap_while_one_replaces_the_other(store: Store) -> None:
    first = await store.tokens.create_machine(
        "ci-1", hosts=["a.example.com"], lifetime=1000, actor="uid 0"
    )
    store.clock.now += 500
    second = await store.tokens.rotate("ci-1", kind="machine", keep=100, actor="uid 0")
    assert second.expires_at == store.clock.now + 1000
    old, new = (store.state.index.find(digest_of(made.secret.encode())) for made in (first, second))
    assert old is not None
    assert new is not None
    assert (old.hosts, old.ends_at) == (new.hosts, store.clock.now + 100)
    assert len(await store.tokens.listed("machine")) == 2
    store.clock.now += 100
    assert old.end_reason(store.clock.now) == SESSION_ENDED
    assert new.end_reason(store.clock.now) == ""
    await store.tokens.rotate("ci-1", kind="machine", keep=0, actor="uid 0")
    assert new.ended == ACCESS_WITHDRAWN
    with pytest.raises(UserUnknown):
        await store.tokens.rotate("ci-2", kind="machine", keep=0, actor="uid 0")


async def test_an_app_acts_for_its_owner_and_ends_with_the_owner(store: Store) -> None:
    await store.passkey("anna", "family")
    made = await store.tokens.create_app(
        "Anna's phone", user="anna", hosts=[], lifetime=None, actor="user anna"
    )
    token = store.state.index.find(digest_of(made.secret.encode()))
    assert token is not None
    assert (token.subject.id, token.subject.name) == ("app:Anna's phone", "Anna's phone")
    assert token.subject.owner is not None
    assert token.subject.owner.groups == {"family"}
    await store.people.add_to_group("kids", "anna", actor="uid 0")
    assert token.subject.owner.groups == {"family", "kids"}
    [(row, name)] = await store.tokens.listed("app", user_id=token.subject.owner.id)
    assert (row.name, name) == ("Anna's phone", "anna")
    with pytest.raises(UserUnknown):
        await store.tokens.revoke(row.name, kind="app", actor="user ben", user_id="u_ben")
    await store.people.disable("anna", actor="uid 0")
    assert token.ended == ACCESS_WITHDRAWN
    with pytest.raises(AccessError, match="disabled"):
        await store.tokens.create_app("x", user="anna", hosts=[], lifetime=None, actor="uid 0")
    with pytest.raises(UserUnknown):
        await store.tokens.create_app("x", user="ben", hosts=[], lifetime=None, actor="uid 0")


async def test_an_app_has_the_groups_that_its_owners_providers_told_last(store: Store) -> None:
    account = ProviderAccount(provider="google", subject="1", groups=("ops",))
    owner = (await store.by_provider(account)).credential.subject
    made = await store.tokens.create_app(
        "phone", user=owner.name, hosts=[], lifetime=None, actor="uid 0"
    )
    token = store.state.index.find(digest_of(made.secret.encode()))
    assert token is not None
    assert token.subject.owner is not None
    assert token.subject.owner.groups == {"google/ops"}
    await store.sign_ins.rechecked(ProviderAccount(provider="google", subject="1"))
    assert token.subject.owner.groups == frozenset()


async def test_apps_of_a_user_who_left_the_file_rest(servers: Stores) -> None:
    file = {"users": [{"name": "anna"}]}
    store = await servers.start(**file)
    made = await store.tokens.create_app(
        "phone", user="anna", hosts=[], lifetime=None, actor="uid 0"
    )
    digest = digest_of(made.secret.encode())
    await store.state.reconfigure(access())
    found = store.state.index.find(digest)
    assert found is not None
    assert found.ended == ACCESS_WITHDRAWN
    assert (await servers.start()).state.index.find(digest) is None
    await store.state.reconfigure(access(**file))
    found = store.state.index.find(digest)
    assert found is not None
    assert not found.ended


async def test_the_last_use_is_stored(store: Store) -> None:
    made = await store.tokens.create_machine("frame", hosts=[], lifetime=None, actor="uid 0")
    token = store.state.index.find(digest_of(made.secret.encode()))
    assert token is not None
    store.clock.now += 60
    token.seen_at = store.clock.now
    await store.state.touch()
    [(row, _)] = await store.tokens.listed("machine")
    assert row.used_at == store.clock.now
