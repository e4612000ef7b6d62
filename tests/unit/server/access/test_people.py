"""Tests of zerotrust.server.access.people."""

import asyncio

import pytest

from tests.support.people import PROVIDERS, Store, Stores, access, new_passkey
from zerotrust.access.subject import ACCESS_WITHDRAWN
from zerotrust.errors import AccessError, AccessRefused, UserUnknown
from zerotrust.server.access.people import ProviderAccount

pytestmark = pytest.mark.anyio

FILE = {"users": [{"name": "anna", "email": "anna@example.com", "groups": ["family"]}]}


async def test_an_invitation_registers_one_passkey(store: Store) -> None:
    invitation = await store.people.invite(
        "anna", email="anna@example.com", groups=["family"], actor="uid 0"
    )
    assert invitation.secret.startswith("0t_i_")
    assert invitation.secret not in repr(invitation)
    assert invitation.expires_at == store.clock.now + 7 * 86400
    for _ in range(3):
        assert (await store.people.invited_user(invitation.secret)).name == "anna"
    results = await asyncio.gather(
        *(
            store.people.accept_invitation(invitation.secret, new_passkey(bytes([number])))
            for number in range(10)
        ),
        return_exceptions=True,
    )
    assert len([result for result in results if isinstance(result, AccessRefused)]) == 9
    user = await store.people.user("anna")
    assert (user.passkeys, user.groups, user.email) == (1, ("family",), "anna@example.com")
    assert store.actions()[:4] == ["user.added", "group.added", "user.invited", "passkey.added"]


@pytest.mark.parametrize("change", ["typing", "unknown", "late", "replaced", "disabled"])
async def test_an_invitation_that_is_not_valid_is_refused(store: Store, change: str) -> None:
    secret = (await store.people.invite("anna", email=None, groups=[], actor="uid 0")).secret
    match change:
        case "typing":
            secret = secret[:-1] + ("A" if secret[-1] != "A" else "B")
        case "unknown":
            secret = ""
        case "late":
            store.clock.now += 7 * 86400
        case "replaced":
            await store.people.invite("anna", email=None, groups=[], actor="uid 0")
        case "disabled":
            await store.people.disable("anna", actor="uid 0")
    with pytest.raises(AccessRefused):
        await store.people.invited_user(secret)
    with pytest.raises(AccessRefused):
        await store.people.accept_invitation(secret, new_passkey(b"1"))


async def test_a_disabled_user_is_out_at_once_and_comes_back_only_by_signing_in(
    store: Store,
) -> None:
    key = await store.passkey("anna")
    sign_in = (await store.sign_in(key)).credential
    made = await store.enter(sign_in)
    assert await store.people.disable("anna", actor="uid 0") == 1
    assert sign_in.ended == made.ended == ACCESS_WITHDRAWN
    with pytest.raises(AccessRefused, match="disabled"):
        await store.sign_in(key)
    with pytest.raises(AccessError, match="enable"):
        await store.people.invite("anna", email=None, groups=[], actor="uid 0")
    await store.people.enable("anna", actor="uid 0")
    assert sign_in.ended
    assert not (await store.sign_in(key)).credential.ended
    assert "user.disabled" in store.actions()
    assert "user.enabled" in store.actions()


async def test_groups_change_the_subjects_of_all_credentials(store: Store) -> None:
    sign_in = (await store.sign_in(await store.passkey("anna"))).credential
    made = await store.enter(sign_in)
    made.verdicts = {1: 1}
    assert await store.people.add_to_group("family", "anna", actor="uid 0")
    assert not await store.people.add_to_group("family", "anna", actor="uid 0")
    assert made.subject is sign_in.subject
    assert made.subject.groups == {"family"}
    assert made.verdicts is None
    assert store.notified == 1
    assert await store.people.remove_from_group("family", "anna", actor="uid 0")
    assert not await store.people.remove_from_group("family", "anna", actor="uid 0")
    assert made.subject.groups == frozenset()
    assert store.notified == 2
    for wrong in ("google/family", "", "x" * 65, "a b"):
        with pytest.raises(AccessError):
            await store.people.add_to_group(wrong, "anna", actor="uid 0")
        with pytest.raises(AccessError):
            await store.people.invite(wrong, email=None, groups=[], actor="uid 0")


async def test_file_and_database_add_up(servers: Stores) -> None:
    store = await servers.start(**FILE)
    [user] = await store.people.users()
    assert (user.name, user.id, user.in_file, user.groups) == ("anna", "", True, ("family",))
    made = (await store.sign_in(await store.passkey("anna", "admins"))).credential
    assert made.subject.groups == {"family", "admins"}
    assert made.subject.emails == {"anna@example.com"}
    with pytest.raises(AccessError, match="file"):
        await store.people.remove("anna", actor="uid 0")
    with pytest.raises(AccessError, match="file"):
        await store.people.remove_from_group("family", "anna", actor="uid 0")


async def test_who_leaves_the_file_is_out_and_may_come_back(servers: Stores) -> None:
    store = await servers.start(**FILE)
    key = await store.passkey("anna")
    await store.passkey("ben", "family")
    sign_in = (await store.sign_in(key)).credential
    await store.state.reconfigure(access())
    assert sign_in.ended == ACCESS_WITHDRAWN
    with pytest.raises(AccessRefused, match="disabled"):
        await store.sign_in(key)
    with pytest.raises(UserUnknown):
        await store.people.user("carla")
    await store.state.reconfigure(access(**FILE))
    again = (await store.sign_in(key)).credential
    assert again.subject.groups == {"family"}
    await store.state.reconfigure(access(users=[{"name": "anna", "groups": ["kids"]}]))
    assert again.subject.groups == {"kids"}
    assert not again.ended


async def test_a_removed_user_leaves_no_row(store: Store) -> None:
    key = await store.passkey("anna", "family")
    sign_in = (await store.sign_in(key)).credential
    made = await store.enter(sign_in)
    await store.people.remove("anna", actor="uid 0")
    assert sign_in.ended == made.ended == ACCESS_WITHDRAWN
    assert await store.people.users() == []
    with pytest.raises(UserUnknown):
        await store.people.remove("anna", actor="uid 0")
    before = sign_in.subject.id
    again = (await store.sign_in(await store.passkey("anna"))).credential
    assert again.subject.id != before


async def test_passkeys_are_added_and_removed_by_their_owner(store: Store) -> None:
    first = await store.passkey("anna")
    user = await store.people.user("anna")
    await store.people.add_passkey(user.id, new_passkey(b"2"), actor="user anna")
    with pytest.raises(AccessError, match="already"):
        await store.people.add_passkey(user.id, new_passkey(b"2"), actor="user anna")
    store_ben = await store.people.invite("ben", email=None, groups=[], actor="uid 0")
    ben = await store.people.invited_user(store_ben.secret)
    with pytest.raises(UserUnknown):
        await store.people.remove_passkey(ben.id, first, actor="user ben")
    await store.people.remove_passkey(user.id, first, actor="user anna")
    assert [row.credential_id for row in await store.people.passkeys(user.id)] == [b"2"]


async def test_an_account_is_joined_by_its_owner(store: Store) -> None:
    account = ProviderAccount(provider="google", subject="1", groups=("ops",))
    key = await store.passkey("anna", "family")
    anna = (await store.sign_in(key)).credential.subject
    await store.people.link_account(anna.id, account, actor="user anna")
    made = (await store.by_provider(account)).credential
    assert made.subject.id == anna.id
    assert made.subject.groups == {"family", "google/ops"}
    by_key = (await store.sign_in(key)).credential
    assert by_key.subject.groups == {"family"}, "a passkey proves nothing about the provider"
    with pytest.raises(AccessError, match="already"):
        await store.people.link_account(
            anna.id, ProviderAccount(provider="google", subject="2"), actor="user anna"
        )
    await store.passkey("ben")
    ben = await store.people.user("ben")
    with pytest.raises(AccessError, match="another user"):
        await store.people.link_account(ben.id, account, actor="user ben")


async def test_an_account_that_signed_in_before_leaves_its_former_user(store: Store) -> None:
    account = ProviderAccount(provider="google", subject="1", groups=("ops",))
    alone = (await store.by_provider(account)).credential
    anna = (await store.sign_in(await store.passkey("anna"))).credential.subject
    await store.people.link_account(anna.id, account, actor="user anna")
    assert alone.ended == ACCESS_WITHDRAWN
    [user] = await store.people.users()
    assert user.name == "anna"
    assert user.groups == ("google/ops",), "what the provider has stated"
    assert (await store.by_provider(account)).credential.subject.id == anna.id


async def test_a_disabled_user_does_not_escape_by_joining(store: Store) -> None:
    account = ProviderAccount(provider="google", subject="1")
    alone = (await store.by_provider(account)).credential
    await store.people.disable(alone.subject.name, actor="uid 0")
    anna = (await store.sign_in(await store.passkey("anna"))).credential.subject
    with pytest.raises(AccessError, match="another user"):
        await store.people.link_account(anna.id, account, actor="user anna")


async def test_a_provider_that_leaves_the_file_takes_its_sign_ins_along(servers: Stores) -> None:
    store = await servers.start(identity_providers=PROVIDERS)
    made = await store.by_provider(ProviderAccount(provider="google", subject="1"))
    by_key = (await store.sign_in(await store.passkey("anna"))).credential
    await store.state.reconfigure(access())
    assert made.credential.ended == ACCESS_WITHDRAWN
    assert not by_key.ended
    assert store.notified == 1
    await store.state.reconfigure(access(identity_providers=PROVIDERS))
    found = store.state.index.find(made.credential.digest)
    assert found is not None
    assert not found.ended
    assert store.actions()[-2:] == ["access.changed", "access.changed"]


async def test_no_account_is_joined_to_a_user_who_was_disabled_meanwhile(store: Store) -> None:
    """It would be theirs when they are enabled again."""
    sign_in = (await store.sign_in(await store.passkey("anna"))).credential
    await store.people.disable("anna", actor="uid 0")
    account = ProviderAccount(provider="google", subject="1")
    with pytest.raises(AccessRefused, match="disabled"):
        await store.people.link_account(sign_in.subject.id, account, actor="user anna")
    await store.people.enable("anna", actor="uid 0")
    assert (await store.people.user("anna")).providers == ()


async def test_users_of_a_provider_add_no_passkey_of_their_own(store: Store) -> None:
    """It would go on signing them in after the provider has refused them."""
    account = ProviderAccount(provider="google", subject="1")
    user = (await store.by_provider(account)).credential.subject
    with pytest.raises(AccessRefused, match="sign in at google"):
        await store.people.add_passkey(user.id, new_passkey(b"1"), actor=f"user {user.name}")
    invitation = await store.people.invite(user.name, email=None, groups=[], actor="uid 0")
    await store.people.accept_invitation(invitation.secret, new_passkey(b"1"))
    assert len(await store.people.passkeys(user.id)) == 1, "an administrator may decide otherwise"
