"""Tests of zerotrust.server.access.share_links."""

import asyncio
from typing import Any

import argon2
import pytest

from tests.support.people import Store, Stores, access
from zerotrust.access.gate import VerdictKind
from zerotrust.access.gate_request import GateRequest
from zerotrust.access.gate_table import GateTable
from zerotrust.access.secret_format import is_secret
from zerotrust.access.subject import ACCESS_WITHDRAWN, CredentialKind, SubjectKind
from zerotrust.errors import AccessError, AccessRefused, TooManyTries, UserUnknown
from zerotrust.server.access import pin_checks
from zerotrust.server.access.pin_checks import TRIES_A_DAY, PinAsleep
from zerotrust.server.access.share_links import IssuedLink
from zerotrust.server.access.sign_ins import BrowserInfo

pytestmark = pytest.mark.anyio

HOST = "photos.example.com"
URL = f"https://{HOST}/album/7"
RULE = {
    "hosts": [HOST],
    "allow": [{"group": "family"}],
    "deny": [{"group": "kids"}],
    "links": True,
}


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a verification take less than a millisecond: the tests make hundreds."""
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(pin_checks, "HASHER", cheap)


async def shared(store: Store, url: str = URL, **settings: Any) -> tuple[IssuedLink, str]:
    values: dict[str, Any] = {
        "lifetime": 3600.0,
        "uses": None,
        "pin": None,
        "methods": [],
        "created_by": "uid 0",
        **settings,
    }
    link = await store.links.create(url, actor="uid 0", **values)
    return link, link.url.partition("#")[2]


async def test_a_link_counts_as_its_creator_in_deny(servers: Stores) -> None:
    """`deny` for a group holds for the links of its members, also of later ones."""
    store = await servers.start()
    await store.passkey("ben", "family")
    ben = await store.people.user("ben")
    _, secret = await shared(store, created_by=ben.id)
    made = await store.links.use(secret, host=HOST, pin=None, browser=store.browser())
    gates = GateTable(access(rules=[RULE]))
    gate, request = gates.find(HOST), GateRequest(b"GET", b"/album/7")
    assert gate is not None
    again = (await servers.start()).state.index.find(made.credential.digest)
    assert again is not None
    assert again.subject == made.credential.subject
    assert gate.judge(made.credential, request).kind is VerdictKind.ALLOW
    await store.people.add_to_group("kids", "ben", actor="uid 0")
    assert gate.judge(made.credential, request).kind is VerdictKind.DENY


async def test_links_of_users_who_left_the_file_while_no_server_ran(servers: Stores) -> None:
    before = await servers.start(users=[{"name": "ben"}])
    sign_in = (await before.sign_in(await before.passkey("ben"))).credential
    _, secret = await shared(before, created_by=sign_in.subject.id)
    made = await before.links.use(secret, host=HOST, pin=None, browser=before.browser())
    store = await servers.start()
    assert store.state.index.find(made.credential.digest) is None
    assert await store.links.listed() == []
    assert await store.sign_ins.listed() == []
    with pytest.raises(AccessRefused, match="not valid"):
        await store.links.use(secret, host=HOST, pin=None, browser=store.browser())
    again = await servers.start(users=[{"name": "ben"}])
    assert again.state.index.find(made.credential.digest) is None, "what has ended stays so"
    assert again.actions().count("link.revoked") == 1


async def test_a_link_opens_its_path_until_its_end(servers: Stores) -> None:
    store = await servers.start()
    link, secret = await shared(store)
    assert link.url.startswith(f"https://{HOST}/.0trust/share#0t_l_")
    assert is_secret(secret)
    assert secret not in repr(link)
    for _ in range(3):
        assert (await store.links.show(secret, host=HOST)).path == "/album/7"
    made = await store.links.use(secret, host=HOST, pin=None, browser=store.browser())
    assert made.target == "/album/7"
    again = await servers.start()
    for server in (store, again):
        found = server.state.index.find(made.credential.digest)
        assert found is not None
        assert (found.kind, found.host) == (CredentialKind.PASS, HOST)
        assert (found.path, found.methods) == ("/album/7", ("GET", "HEAD"))
        assert (found.subject.kind, found.subject.id) == (SubjectKind.LINK, f"link:{link.id}")
        assert found.ends_at == link.expires_at
    store.clock.now += 3600
    with pytest.raises(AccessRefused):
        await store.links.show(secret, host=HOST)
    assert store.actions()[:2] == ["link.created", "link.used"]


async def test_a_visitor_who_signs_out_ends_one_pass(servers: Stores) -> None:
    store = await servers.start()
    _, secret = await shared(store)
    first, second = [
        (await store.links.use(secret, host=HOST, pin=None, browser=store.browser())).credential
        for _ in range(2)
    ]
    before = store.actions()
    await store.links.sign_out(first)
    await store.links.sign_out(first)
    for server in (store, await servers.start()):
        found = [server.state.index.get(CredentialKind.PASS, made.id) for made in (first, second)]
        assert found[0] is None and found[1] is not None
    assert first.ended and not second.ended
    assert store.actions() == before


async def test_the_pass_of_a_user_ends_with_the_sign_in_alone(servers: Stores) -> None:
    store = await servers.start()
    made = await store.enter((await store.sign_in(await store.passkey("anna"))).credential)
    await store.links.sign_out(made)
    assert not made.ended


async def test_a_revoked_link_ends_its_passes(servers: Stores) -> None:
    store = await servers.start()
    link, secret = await shared(store, created_by="u_1")
    passes = [
        (await store.links.use(secret, host=HOST, pin=None, browser=store.browser())).credential
        for _ in range(3)
    ]
    with pytest.raises(UserUnknown):
        await store.links.revoke(link.id, actor="user ben", created_by="u_2")
    assert [row.id for row in await store.links.listed(created_by="u_1")] == [link.id]
    assert await store.links.revoke(link.id, actor="uid 0") == 3
    assert {made.ended for made in passes} == {ACCESS_WITHDRAWN}
    assert await store.links.listed() == []
    with pytest.raises(AccessRefused):
        await store.links.use(secret, host=HOST, pin=None, browser=store.browser())
    with pytest.raises(UserUnknown):
        await store.links.revoke(link.id, actor="uid 0")


async def test_a_link_of_three_uses_opens_three_times_however_many_ask(servers: Stores) -> None:
    first, second = await servers.start(), await servers.start()
    _, secret = await shared(first, uses=3)
    results = await asyncio.gather(
        *(
            server.links.use(secret, host=HOST, pin=None, browser=server.browser())
            for server in (first, second) * 6
        ),
        return_exceptions=True,
    )
    assert len([found for found in results if isinstance(found, AccessRefused)]) == 9


async def test_a_link_of_another_host_or_with_a_typing_error_is_refused(store: Store) -> None:
    _, secret = await shared(store)
    for wrong, host in ((secret, "other.example.com"), (secret[:-1] + "!", HOST), ("", HOST)):
        with pytest.raises(AccessRefused):
            await store.links.show(wrong, host=host)


@pytest.mark.parametrize(
    "settings",
    [
        {"lifetime": 31 * 86400.0},
        {"lifetime": 0.0},
        {"uses": 0},
        {"methods": ["get"]},
        {"pin": "12345"},
        {"pin": "abcdef"},
    ],
)
async def test_settings_out_of_range_are_refused(store: Store, settings: dict[str, Any]) -> None:
    with pytest.raises(AccessError):
        await shared(store, **settings)


async def test_a_link_with_a_pin_needs_it_and_sleeps_after_guesses(store: Store) -> None:
    _, secret = await shared(store, pin="123456")
    for pin in (None, "000000", "\ud800", "1" * 1000):
        with pytest.raises(AccessRefused, match="wrong PIN"):
            await store.links.use(secret, host=HOST, pin=pin, browser=store.browser())
    made = await store.links.use(secret, host=HOST, pin="123456", browser=store.browser())
    assert made.credential.host == HOST
    for number in range(TRIES_A_DAY - 4):
        with pytest.raises(AccessRefused):
            await store.links.use(secret, host=HOST, pin=f"{number:06}", browser=store.browser())
    with pytest.raises(PinAsleep):
        await store.links.use(secret, host=HOST, pin="123456", browser=store.browser())
    assert not made.credential.ended


async def test_a_disabled_user_takes_their_links_along(store: Store) -> None:
    anna = (await store.sign_in(await store.passkey("anna"))).credential.subject
    _, secret = await shared(store, created_by=anna.id)
    made = await store.links.use(secret, host=HOST, pin=None, browser=store.browser())
    await store.people.disable("anna", actor="uid 0")
    assert made.credential.ended == ACCESS_WITHDRAWN


async def test_a_removed_user_takes_their_links_along(store: Store) -> None:
    anna = (await store.sign_in(await store.passkey("anna"))).credential.subject
    _, secret = await shared(store, created_by=anna.id)
    made = await store.links.use(secret, host=HOST, pin=None, browser=store.browser())
    await store.people.remove("anna", actor="uid 0")
    assert made.credential.ended == ACCESS_WITHDRAWN
    assert await store.links.listed() == []


async def test_a_pin_opens_its_host_until_it_is_changed(servers: Stores) -> None:
    store = await servers.start()
    with pytest.raises(AccessRefused, match="no PIN"):
        await store.links.enter_pin(HOST, "123456", browser=store.browser())
    with pytest.raises(AccessError, match="6 to 32 digits"):
        await store.links.set_pin(HOST, "12345", actor="uid 0")
    with pytest.raises(AccessError, match="not a host"):
        await store.links.set_pin("a b", "123456", actor="uid 0")
    await store.links.set_pin(HOST, "123456", actor="uid 0")
    made = (await store.links.enter_pin(HOST, "123456", browser=store.browser())).credential
    assert (made.subject.kind, made.subject.id) == (SubjectKind.PIN, f"pin:{HOST}")
    other = await servers.start()
    assert other.state.index.find(made.digest) is not None
    await store.links.set_pin(HOST, "654321", actor="uid 0")
    assert made.ended == ACCESS_WITHDRAWN
    with pytest.raises(AccessRefused, match="wrong PIN"):
        await store.links.enter_pin(HOST, "123456", browser=store.browser())
    assert [row.host for row in await store.links.pins()] == [HOST]
    made = (await store.links.enter_pin(HOST, "654321", browser=store.browser())).credential
    assert await store.links.clear_pin(HOST, actor="uid 0")
    assert made.ended == ACCESS_WITHDRAWN
    assert not await store.links.clear_pin(HOST, actor="uid 0")
    assert [action for action in store.actions() if action.startswith("pin.")] == [
        "pin.set",
        "pin.set",
        "pin.cleared",
    ]


@pytest.mark.large
@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_thousand_guesses_put_a_pin_to_sleep_and_its_passes_go_on(store: Store) -> None:
    await store.links.set_pin(HOST, "123456", actor="uid 0")
    inside = (await store.links.enter_pin(HOST, "123456", browser=store.browser())).credential
    browsers = [BrowserInfo(client=f"203.0.113.{number}") for number in range(200)]
    results = await asyncio.gather(
        *(
            store.links.enter_pin(HOST, f"{number:06}", browser=browsers[number % 200])
            for number in range(1000)
        ),
        return_exceptions=True,
    )
    assert all(isinstance(result, AccessRefused) for result in results)
    wrong = [result for result in results if str(result) == "wrong PIN"]
    assert len(wrong) <= TRIES_A_DAY
    while len(wrong) < TRIES_A_DAY:  # the others found too many waiting
        with pytest.raises(AccessRefused, match="wrong PIN") as caught:
            await store.links.enter_pin(HOST, "000000", browser=store.browser())
        wrong.append(caught.value)
    with pytest.raises(PinAsleep):
        await store.links.enter_pin(HOST, "123456", browser=store.browser())
    assert inside.end_reason(store.clock.now) == ""
    assert store.actions().count("pin.asleep") == 1
    store.clock.now += 86400
    await store.links.enter_pin(HOST, "123456", browser=store.browser())


async def test_a_network_has_five_wrong_tries(store: Store) -> None:
    await store.links.set_pin(HOST, "123456", actor="uid 0")
    home = BrowserInfo(client="2001:db8::1")
    for number in range(5):
        with pytest.raises(AccessRefused, match="wrong PIN"):
            await store.links.enter_pin(HOST, f"{number:06}", browser=home)
    with pytest.raises(TooManyTries, match="wrong tries"):
        await store.links.enter_pin(HOST, "123456", browser=BrowserInfo(client="2001:db8::2"))
    await store.links.enter_pin(HOST, "123456", browser=store.browser())
