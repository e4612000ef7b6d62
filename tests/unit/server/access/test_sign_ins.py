"""Tests of zerotrust.server.access.sign_ins."""

import asyncio
import dataclasses
import secrets
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from tests.support.people import CHALLENGE, HOST, PROVIDERS, START, VERIFIER, Store, Stores
from zerotrust.access.secret_format import digest_of, is_cookie
from zerotrust.access.subject import (
    ACCESS_WITHDRAWN,
    SESSION_ENDED,
    SIGNED_OUT,
    CredentialKind,
    SubjectKind,
)
from zerotrust.db.access_tables import IdentityRow
from zerotrust.errors import AccessRefused, TooManyTries, UserUnknown
from zerotrust.server.access.people import ProviderAccount
from zerotrust.server.access.refresh_seal import RefreshSeal
from zerotrust.server.access.sign_ins import BrowserInfo, IssuedCookie, SignIns

pytestmark = pytest.mark.anyio

EVE = ProviderAccount(
    provider="google", subject="1", email="eve@example.com", email_verified=True, groups=("ops",)
)


async def test_a_passkey_signs_in_and_the_sign_in_opens_a_host(store: Store) -> None:
    made = await store.sign_in(await store.passkey("anna", "family"))
    assert is_cookie(made.value.encode())
    sign_in = made.credential
    assert store.state.index.find(digest_of(made.value.encode())) is sign_in
    assert (sign_in.kind, sign_in.method) == (CredentialKind.SIGN_IN, "passkey")
    assert (sign_in.subject.kind, sign_in.subject.name) == (SubjectKind.USER, "anna")
    assert sign_in.subject.groups == {"family"}
    assert sign_in.proven_at == store.clock.now
    code = await store.sign_ins.hand_over(sign_in, host=HOST, challenge=CHALLENGE, target="/x?y")
    entered = await store.sign_ins.accept_hand_over(code, host=HOST, verifier=VERIFIER)
    made_pass = entered.credential
    assert entered.target == "/x?y"
    assert (made_pass.kind, made_pass.host) == (CredentialKind.PASS, HOST)
    assert made_pass.sign_in is sign_in
    assert made_pass.subject is sign_in.subject
    assert store.actions()[-1] == "signed.in"


@pytest.mark.parametrize(
    "change", ["code", "host", "verifier", "late", "signed out", "disabled", "again"]
)
async def test_a_hand_over_that_does_not_fit_is_refused(store: Store, change: str) -> None:
    sign_in = (await store.sign_in(await store.passkey("anna"))).credential
    code = await store.sign_ins.hand_over(sign_in, host=HOST, challenge=CHALLENGE, target="/")
    host, verifier = HOST, VERIFIER
    match change:
        case "code":
            code = code[::-1]
        case "host":
            host = "other.example.com"
        case "verifier":
            verifier = b"w" * 32
        case "late":
            store.clock.now += 60
        case "signed out":
            await store.sign_ins.sign_out(sign_in, everywhere=False)
        case "disabled":
            await store.people.disable("anna", actor="uid 0")
        case "again":
            await store.sign_ins.accept_hand_over(code, host=host, verifier=verifier)
    with pytest.raises(AccessRefused, match="no longer valid"):
        await store.sign_ins.accept_hand_over(code, host=host, verifier=verifier)
    assert store.actions()[-1] == "sign_in.refused"
    if change in ("host", "verifier"):
        await store.sign_ins.accept_hand_over(code, host=HOST, verifier=VERIFIER)


async def test_a_code_makes_one_pass_however_many_ask_at_once(servers: Stores) -> None:
    first, second = await servers.start(), await servers.start()
    sign_in = (await first.sign_in(await first.passkey("anna"))).credential
    code = await first.sign_ins.hand_over(sign_in, host=HOST, challenge=CHALLENGE, target="/")
    results = await asyncio.gather(
        *(
            server.sign_ins.accept_hand_over(code, host=HOST, verifier=VERIFIER)
            for server in (first, second) * 10
        ),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, AccessRefused)]
    assert len(refused) == 19


async def test_a_sign_out_ends_the_passes_of_this_browser_only(store: Store) -> None:
    key = await store.passkey("anna")
    here, there = (await store.sign_in(key)).credential, (await store.sign_in(key)).credential
    passes = [await store.enter(here, host) for host in ("a.example.com", "b.example.com")]
    other = await store.enter(there)
    assert await store.sign_ins.sign_out(here, everywhere=False) == 1
    assert {made.ended for made in (here, *passes)} == {SIGNED_OUT}
    assert other.end_reason(store.clock.now) == ""
    assert store.notified == 1
    third = (await store.sign_in(key)).credential
    assert await store.sign_ins.sign_out(third, everywhere=True) == 2
    assert other.ended == SIGNED_OUT
    assert store.actions().count("signed.out") == 2
    with pytest.raises(AccessRefused, match="signed out"):
        await store.enter(third)


async def test_what_has_ended_is_not_there_after_a_restart(servers: Stores) -> None:
    store = await servers.start()
    key = await store.passkey("anna")
    kept, ended = (await store.sign_in(key)).credential, (await store.sign_in(key)).credential
    live = await store.enter(kept)
    gone = await store.enter(ended)
    await store.sign_ins.sign_out(ended, everywhere=False)
    again = await servers.start()
    found = again.state.index.find(live.digest)
    assert found is not None
    assert (found.host, found.subject.name, found.sign_in and found.sign_in.id) == (
        HOST,
        "anna",
        kept.id,
    )
    assert again.state.index.find(gone.digest) is None
    assert again.state.index.find(ended.digest) is None


async def test_a_passkey_whose_counter_does_not_rise_may_be_a_copy(store: Store) -> None:
    key = await store.passkey("anna")

    async def counted(counter: int) -> None:
        await store.sign_ins.by_passkey(
            key, store.browser(), counter=counter, backed_up=False, spent=secrets.token_bytes(32)
        )

    await counted(0)
    await counted(5)
    for counter in (5, 4, 0):
        with pytest.raises(AccessRefused, match="copied"):
            await counted(counter)
    await counted(6)


async def test_a_used_attempt_signs_in_once(store: Store) -> None:
    spent = secrets.token_bytes(32)
    await store.sign_ins.by_provider(EVE, store.browser(), spent=spent)
    with pytest.raises(AccessRefused, match="completed before"):
        await store.sign_ins.by_provider(EVE, store.browser(), spent=spent)
    with pytest.raises(AccessRefused, match="not known here"):
        await store.sign_in(b"unknown")


async def test_an_office_signs_in_at_once(store: Store) -> None:
    """A passkey cannot be guessed, so the limit on guesses does not apply."""
    office = BrowserInfo(client="192.0.2.1")
    key = await store.passkey("anna")
    for _ in range(20):
        await store.sign_ins.by_passkey(
            key, office, counter=0, backed_up=False, spent=secrets.token_bytes(32)
        )


async def test_a_network_has_ten_tries_at_codes_a_minute(store: Store) -> None:
    office = BrowserInfo(client="192.0.2.1")
    for _ in range(10):
        with pytest.raises((AccessRefused, TooManyTries)):
            await store.sign_ins.pair("ABC", office)
    with pytest.raises(TooManyTries, match="attempts") as caught:
        await store.sign_ins.pair("ABC", office)
    assert caught.value.retry_after > 0


async def test_a_person_has_a_hundred_sign_ins_and_the_oldest_goes(store: Store) -> None:
    key = await store.passkey("anna")
    made = [(await store.sign_in(key)).credential for _ in range(102)]
    assert [credential.ended for credential in made] == [SESSION_ENDED] * 2 + [""] * 100


async def test_lifetime_and_idle_end_a_sign_in(servers: Stores) -> None:
    store = await servers.start(sessions={"lifetime": "1d", "idle": "1h"})
    key = await store.passkey("anna")
    sign_in = (await store.sign_in(key)).credential
    made = await store.enter(sign_in)
    store.clock.now += 3500
    sign_in.seen_at = store.clock.now
    store.clock.now += 3500
    assert made.end_reason(store.clock.now) == ""
    store.clock.now += 300
    assert made.end_reason(store.clock.now) == SESSION_ENDED
    await store.state.touch()
    assert sign_in.ended == made.ended == SESSION_ENDED
    assert store.actions()[-1] == "session.ended"
    sign_in = (await store.sign_in(key)).credential
    for _ in range(24):
        store.clock.now += 3600
        sign_in.seen_at = store.clock.now
    assert sign_in.end_reason(store.clock.now) == SESSION_ENDED


async def test_a_provider_account_is_a_new_user_whatever_address_it_claims(store: Store) -> None:
    await store.passkey("anna", "family")
    await store.people.invite("anna", email="anna@example.com", groups=[], actor="uid 0")
    made = await store.by_provider(
        ProviderAccount(
            provider="evil",
            subject="anna",
            email="anna@example.com",
            email_verified=True,
            groups=("admins", "evil/x"),
        )
    )
    subject = made.credential.subject
    assert subject.name == "evil/anna@example.com"
    assert subject.groups == {"evil/admins", "evil/evil/x"}
    assert subject.provider == "evil"
    again = await store.by_provider(ProviderAccount(provider="evil", subject="anna"))
    assert again.credential.subject.id == subject.id
    assert again.credential.subject.emails == frozenset()
    assert made.credential.subject is again.credential.subject, "both have what was said last"
    other = await store.by_provider(ProviderAccount(provider="other", subject="anna"))
    assert other.credential.subject.id != subject.id


@pytest.mark.parametrize(("said", "age"), [(-3600, 3600), (50, 0)])
async def test_a_provider_says_when_the_user_has_proven_their_identity(
    store: Store, said: float, age: float
) -> None:
    account = ProviderAccount(provider="p", subject="1", proven_at=store.clock.now + said)
    made = await store.by_provider(account)
    assert store.clock.now - made.credential.proven_at == age


async def test_a_provider_that_does_not_say_when_has_proven_nothing(store: Store) -> None:
    made = await store.by_provider(ProviderAccount(provider="p", subject="1"))
    assert made.credential.proven_at == 0


async def test_unverified_addresses_are_not_in_the_subject(store: Store) -> None:
    made = await store.by_provider(
        ProviderAccount(provider="p", subject="1", email="anna@example.com")
    )
    assert made.credential.subject.emails == frozenset()
    assert made.credential.subject.name == "p/1"


async def test_a_provider_ends_sessions(store: Store) -> None:
    def account(session: str) -> ProviderAccount:
        return ProviderAccount(provider="google", subject="1", session=session)

    one = (await store.by_provider(account("s1"))).credential
    two = (await store.by_provider(account("s2"))).credential
    assert await store.sign_ins.provider_logout("other", session="s1", subject="1") == 0
    assert await store.sign_ins.provider_logout("google", session="s1", subject="") == 1
    assert (one.ended, two.ended) == (SIGNED_OUT, "")
    assert await store.sign_ins.provider_logout("google", session="", subject="") == 0
    assert await store.sign_ins.provider_logout("google", session="", subject="1") == 1
    assert two.ended == SIGNED_OUT
    assert store.actions().count("provider.logout") == 2
    three = (await store.by_provider(account("s3"))).credential
    assert await store.sign_ins.refused_by_provider("google", "1") == 1
    assert three.ended == ACCESS_WITHDRAWN


async def test_an_administrator_lists_and_ends_sessions(store: Store) -> None:
    anna, ben = await store.passkey("anna"), await store.passkey("ben")
    first, second = (await store.sign_in(anna)).credential, (await store.sign_in(ben)).credential
    listed = await store.sign_ins.listed()
    assert [(str(row.number), name) for row, name in listed] == [
        (second.id, "ben"),
        (first.id, "anna"),
    ]
    assert len(await store.sign_ins.listed("anna")) == 1
    with pytest.raises(UserUnknown):
        await store.sign_ins.listed("carla")
    await store.sign_ins.end(int(first.id), actor="uid 0")
    assert first.ended == SESSION_ENDED
    with pytest.raises(UserUnknown):
        await store.sign_ins.end(int(first.id), actor="uid 0")
    assert await store.sign_ins.end_all("ben", actor="uid 0") == 1
    assert await store.sign_ins.of_user(second.subject.id) == []


async def test_a_proof_that_is_renewed_counts_for_all_passes(store: Store) -> None:
    key, other = await store.passkey("anna"), await store.passkey("ben")
    sign_in = (await store.sign_in(key)).credential
    made = await store.enter(sign_in)
    made.verdicts = {1: 1}
    store.clock.now += 1000

    async def prove(credential_id: bytes) -> None:
        await store.sign_ins.prove_again(
            sign_in,
            credential_id,
            store.browser(),
            counter=0,
            backed_up=False,
            spent=secrets.token_bytes(32),
        )

    with pytest.raises(AccessRefused, match="not yours"):
        await prove(other)
    assert made.proven_at == store.clock.now - 1000
    await prove(key)
    assert made.proven_at == sign_in.proven_at == store.clock.now
    assert made.verdicts is None
    assert sign_in.ends_at == store.clock.now - 1000 + 7 * 86400, "it does not live longer"


async def test_a_code_pairs_one_device_for_half_a_year(store: Store) -> None:
    sign_in = (await store.sign_in(await store.passkey("anna", "family"))).credential
    proven_at = store.clock.now
    store.clock.now += 3600
    code, expires_at = await store.sign_ins.create_pairing(sign_in)
    assert expires_at == store.clock.now + 300
    assert len(code) == 8
    assert not set(code) & set("01OIL")
    results = await asyncio.gather(
        *(
            store.sign_ins.pair(f" {code[:4].lower()}-{code[4:]} ", store.browser())
            for _ in range(10)
        ),
        return_exceptions=True,
    )
    [made] = [found for found in results if isinstance(found, IssuedCookie)]
    device = made.credential
    assert device.method == "device"
    assert device.subject.groups == {"family"}
    assert device.ends_at == store.clock.now + 180 * 86400
    assert device.proven_at == proven_at, "a code proves no identity"
    store.clock.now += 100 * 86400
    assert device.end_reason(store.clock.now) == ""
    await store.state.touch()
    assert device.end_reason(store.clock.now) == "", "a picture frame may be idle"
    with pytest.raises(AccessRefused, match="cannot pair others"):
        await store.sign_ins.create_pairing(device)
    store.clock.now += 80 * 86400
    await store.state.touch()
    assert device.ended == SESSION_ENDED


@pytest.mark.parametrize("change", ["late", "replaced", "disabled", "wrong"])
async def test_a_pairing_code_that_is_not_valid_is_refused(store: Store, change: str) -> None:
    sign_in = (await store.sign_in(await store.passkey("anna"))).credential
    code, _ = await store.sign_ins.create_pairing(sign_in)
    match change:
        case "late":
            store.clock.now += 300
        case "replaced":
            await store.sign_ins.create_pairing(sign_in)
        case "disabled":
            await store.people.disable("anna", actor="uid 0")
        case "wrong":
            code = code[1:] + code[0]
    with pytest.raises(AccessRefused):
        await store.sign_ins.pair(code, store.browser())


@pytest.mark.parametrize("how", ["signed out", "ended", "all ended", "logged out", "refused"])
async def test_a_pairing_code_is_over_with_the_sign_in_that_has_made_it(
    store: Store, how: str
) -> None:
    """Else it would carry a session that was taken back into another of half a year."""
    sign_in = (await store.by_provider(EVE)).credential
    code, _ = await store.sign_ins.create_pairing(sign_in)
    match how:
        case "signed out":
            await store.sign_ins.sign_out(sign_in, everywhere=False)
        case "ended":
            await store.sign_ins.end(int(sign_in.id), actor="uid 0")
        case "all ended":
            await store.sign_ins.end_all(sign_in.subject.name, actor="uid 0")
        case "logged out":
            await store.sign_ins.provider_logout("google", session="", subject="1")
        case "refused":
            await store.sign_ins.refused_by_provider("google", "1")
    with pytest.raises(AccessRefused, match="wrong or was used"):
        await store.sign_ins.pair(code, store.browser())


async def test_pairing_codes_are_guessed_five_times_in_five_minutes(store: Store) -> None:
    home = BrowserInfo(client="2001:db8::1")
    with pytest.raises(AccessRefused, match="8 letters"):
        await store.sign_ins.pair("ABC", home)
    for _ in range(5):
        with pytest.raises(AccessRefused, match="wrong"):
            await store.sign_ins.pair("ABCDEFGH", home)
    with pytest.raises(TooManyTries):
        await store.sign_ins.pair("ABCDEFGH", home)


async def test_a_device_has_the_groups_of_the_provider_and_ends_with_the_account(
    store: Store,
) -> None:
    sign_in = (await store.by_provider(EVE)).credential
    code, _ = await store.sign_ins.create_pairing(sign_in)
    device = (await store.sign_ins.pair(code, store.browser())).credential
    assert device.subject is sign_in.subject
    assert await store.sign_ins.refused_by_provider("google", "1") == 2
    assert device.ended == ACCESS_WITHDRAWN


async def test_accounts_are_asked_again_when_it_is_time(servers: Stores, tmp_path: Path) -> None:
    store = await servers.start(identity_providers=RECHECKED)
    sign_ins = SignIns(store.state, seal=RefreshSeal.load(tmp_path))
    account = dataclasses.replace(EVE, refresh="refresh-1")
    assert "refresh-1" not in repr(account)
    made = await sign_ins.by_provider(account, store.browser(), spent=secrets.token_bytes(32))
    assert await sign_ins.due_rechecks() == []
    store.clock.now += 900
    assert await sign_ins.due_rechecks() == [("google", "1", "refresh-1")]
    assert await store.sign_ins.due_rechecks() == [], "this one has no seal"
    other = SignIns(store.state, seal=RefreshSeal(Fernet.generate_key()))
    assert await other.due_rechecks() == [], "another server has sealed it"
    assert made.credential.subject.groups == {"google/ops"}
    await sign_ins.rechecked(dataclasses.replace(account, groups=(), refresh="refresh-2"))
    assert made.credential.subject.groups == frozenset()
    assert store.notified == 1
    assert await sign_ins.due_rechecks() == []
    store.clock.now += 900
    assert await sign_ins.due_rechecks() == [("google", "1", "refresh-2")]
    await sign_ins.sign_out(made.credential, everywhere=False)
    assert await sign_ins.due_rechecks() == []
    with store.database.transaction() as session:
        assert b"refresh-2" not in (session.scalars(select(IdentityRow.refresh)).one() or b"")
    await sign_ins.rechecked(ProviderAccount(provider="google", subject="unknown"))


RECHECKED = {
    **PROVIDERS,
    "google": {"issuer": "https://google.example", "client_id": "0trust", "recheck": "15m"},
}


async def test_an_account_whose_user_has_an_app_is_asked_about_after_the_sign_in(
    servers: Stores, tmp_path: Path
) -> None:
    """An app has the groups of the provider, and may have no end."""
    store = await servers.start(identity_providers=RECHECKED)
    sign_ins = SignIns(store.state, seal=RefreshSeal.load(tmp_path))
    account = dataclasses.replace(EVE, refresh="refresh-1")
    made = await sign_ins.by_provider(account, store.browser(), spent=secrets.token_bytes(32))
    user = made.credential.subject.name
    await store.tokens.create_app("phone", user=user, hosts=[], lifetime=7200, actor="uid 0")
    await sign_ins.sign_out(made.credential, everywhere=False)
    store.clock.now += 900
    assert await sign_ins.due_rechecks() == [("google", "1", "refresh-1")]
    assert await sign_ins.refused_by_provider("google", "1", refresh="refresh-1") == 0
    assert store.actions()[-1] == "account.refused", "no session ended, but the app's groups did"
    assert await sign_ins.due_rechecks() == []
    await sign_ins.rechecked(account)
    assert await sign_ins.due_rechecks() == []
    store.clock.now += 900
    assert await sign_ins.due_rechecks() == [("google", "1", "refresh-1")]
    store.clock.now += 7200
    assert await sign_ins.due_rechecks() == [], "the app has ended"


async def test_an_app_rests_while_the_provider_refuses_its_user(store: Store) -> None:
    user = (await store.by_provider(EVE)).credential.subject.name
    made = await store.tokens.create_app("phone", user=user, hosts=[], lifetime=None, actor="uid 0")
    digest = digest_of(made.secret.encode())
    app = store.state.index.find(digest)
    assert app is not None
    await store.sign_ins.refused_by_provider("google", "1")
    assert app.ended == ACCESS_WITHDRAWN
    await store.state.load()
    assert store.state.index.find(digest) in (None, app), "also after a restart"
    await store.by_provider(EVE)
    back = store.state.index.find(digest)
    assert back is not None and not back.ended


async def test_a_passkey_of_an_administrator_outlives_a_refusing_provider(store: Store) -> None:
    user = (await store.by_provider(EVE)).credential.subject.name
    passkey = await store.passkey(user)
    await store.sign_ins.refused_by_provider("google", "1")
    assert not (await store.sign_in(passkey)).credential.ended


async def test_a_refusal_of_a_refresh_token_that_was_replaced_ends_nothing(
    servers: Stores, tmp_path: Path
) -> None:
    """A user may sign in while the provider is asked about the token of an earlier sign-in."""
    store = await servers.start(identity_providers=RECHECKED)
    sign_ins = SignIns(store.state, seal=RefreshSeal.load(tmp_path))
    for number in (1, 2):
        account = dataclasses.replace(EVE, refresh=f"refresh-{number}")
        made = await sign_ins.by_provider(account, store.browser(), spent=secrets.token_bytes(32))
    assert await sign_ins.refused_by_provider("google", "1", refresh="refresh-1") == 0
    assert made.credential.subject.groups == {"google/ops"}
    assert await sign_ins.refused_by_provider("google", "1", refresh="refresh-2") == 2
    assert made.credential.ended == ACCESS_WITHDRAWN


async def test_a_provider_renews_the_proof_of_its_own_user(store: Store) -> None:
    def account(session: str = "s1", subject: str = "1") -> ProviderAccount:
        return ProviderAccount(
            provider="google", subject=subject, session=session, proven_at=store.clock.now
        )

    sign_in = (await store.by_provider(account())).credential
    entered = await store.enter(sign_in)
    store.clock.now += 1000
    spent = secrets.token_bytes(32)
    renew = store.sign_ins.renew_by_provider
    assert not await renew(sign_in, account(subject="2"), store.browser(), spent=spent)
    assert sign_in.proven_at == START
    assert await renew(sign_in, account("s2"), store.browser(), spent=spent)
    assert sign_in.proven_at == START + 1000
    assert not (sign_in.ended or entered.ended), "what runs goes on"
    with pytest.raises(AccessRefused):
        await renew(sign_in, account(), store.browser(), spent=spent)
    assert await store.sign_ins.provider_logout("google", session="s2", subject="") == 1
    assert entered.end_reason(store.clock.now) == SIGNED_OUT


async def test_a_provider_renews_no_sign_in_of_the_disabled(store: Store) -> None:
    account = ProviderAccount(provider="google", subject="1")
    sign_in = (await store.by_provider(account)).credential
    await store.people.disable(sign_in.subject.name, actor="uid 0")
    with pytest.raises(AccessRefused):
        await store.sign_ins.renew_by_provider(
            sign_in, account, store.browser(), spent=secrets.token_bytes(32)
        )
