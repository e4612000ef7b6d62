"""Tests of zerotrust.server.portal.oidc: sign-in at an honest provider, and at one that lies."""

import asyncio
import gzip
import json
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from joserfc.jwk import ECKey, RSAKey

from tests.support.auth_host import AUTH, HOST, sign_in_of
from tests.support.oidc_provider import SECRET, OidcProviderServer, signed_by
from tests.support.waiting import eventually
from tests.unit.server.portal.provider_stand_in import SignInStandIn, signing_in
from zerotrust.model import access
from zerotrust.model.access import Access, IdentityProvider, issuer_of
from zerotrust.server.portal import oidc, provider_http

pytestmark = pytest.mark.anyio

CHANGED: dict[str, Any] = {"sign_in": [{"email_domain": ["example.com"]}]}


def test_the_issuers_of_kinds() -> None:
    def issuer(**said: Any) -> str:
        return issuer_of(IdentityProvider.model_validate({"client_id": "c", **said}))

    tenant = "8f2c0d5e-0000-4000-8000-000000000000"
    assert issuer(kind="google", **CHANGED) == "https://accounts.google.com"
    assert issuer(kind="entra", tenant=tenant) == f"https://login.microsoftonline.com/{tenant}/v2.0"
    assert issuer(kind="keycloak", issuer="https://sso.test/r/") == "https://sso.test/r/"


async def test_a_sign_in(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        url = await rig.leave(browser)
        asked = dict(parse_qsl(urlsplit(url).query))
        assert asked["redirect_uri"] == f"{AUTH}/in/main"
        assert asked["code_challenge_method"] == "S256"
        assert asked["scope"] == "openid email profile"
        response = await browser.get(rig.provider.authorize(url))
        assert response.status_code == 303
        assert response.headers["location"].startswith(f"/go?host={HOST}&to=%2Fx%3Fy%3D1&n=")
        assert "__Host-0trust=" in response.headers["set-cookie"]
        [account] = rig.store.accounts
        assert (account.provider, account.subject) == ("main", "248289761001")
        assert (account.email, account.email_verified) == ("anna@example.com", True)
        assert account.refresh is None, "without recheck, no refresh token is kept"
        [token_request] = rig.provider.token_requests
        assert len(token_request["code_verifier"]) == 43
        assert "code_verifier" not in url and token_request["code_verifier"] not in url


async def test_ten_tabs_at_once(tmp_path: Path) -> None:
    """Each tab has a state of its own under the one secret of the browser."""
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        await rig.leave(browser)  # the first tab makes the cookie
        urls = [await rig.leave(browser, to=f"/tab/{number}") for number in range(10)]
        backs = [rig.provider.authorize(url) for url in urls]
        answers = await asyncio.gather(*(browser.get(back) for back in reversed(backs)))
        tabs = sorted(answer.headers["location"].partition("to=")[2][:9] for answer in answers)
        assert tabs == [f"%2Ftab%2F{number}"[:9] for number in range(10)]
        assert len(rig.store.spent) == 10


async def test_without_a_service_the_user_comes_to_their_own_page(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        answer = await browser.get("/start/main")
        back = await browser.get(rig.provider.authorize(answer.headers["location"]))
        assert back.headers["location"] == "/me"


async def test_a_sign_in_leads_to_no_host_without_a_rule(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.site.gates.clear()
        back = await browser.get(rig.provider.authorize(await rig.leave(browser)))
        assert back.headers["location"] == "/me"
        rig.site.gates.add(HOST)
        url = await rig.leave(browser)
        rig.site.gates.clear()
        back = await browser.get(rig.provider.authorize(url))
        assert back.headers["location"] == "/me"


async def test_a_long_target_is_begun_anew(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        url = await rig.leave(browser, to="/path?" + "q" * 1900)
        assert len(dict(parse_qsl(urlsplit(url).query))["state"]) <= 2048
        back = await browser.get(rig.provider.authorize(url))
        assert back.headers["location"] == f"https://{HOST}/path"


async def test_an_unknown_provider(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        assert (await browser.get("/start/nowhere")).status_code == 404
        assert (await browser.get("/in/nowhere?code=1&state=2")).status_code == 404


# Another's state, code or issuer


async def test_a_state_of_another_browser(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as anna, rig.browser() as mallory:
        back = rig.provider.authorize(await rig.leave(mallory))
        await rig.leave(anna)
        for browser in (anna, rig.browser()):
            response = await browser.get(back)
            assert response.status_code == 403
            assert "another browser" in response.json()["error"]
        assert rig.store.accounts == [] and rig.provider.token_requests == []


async def test_a_state_of_another_provider(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        back = rig.provider.authorize(await rig.leave(browser, provider="other"))
        response = await browser.get(back.replace("/in/other", "/in/main"))
        assert response.status_code == 403
        assert rig.provider.token_requests == []


async def test_a_state_is_good_for_ten_minutes(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        early = rig.provider.authorize(await rig.leave(browser))
        rig.ahead = -120.0  # another server's clock
        assert (await browser.get(early)).status_code == 403
        rig.ahead = 601.0
        assert (await browser.get(early)).status_code == 403
        rig.ahead = 540.0
        rig.provider.skew = 540.0
        assert (await browser.get(early)).status_code == 303


async def test_a_code_that_is_used_twice(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        back = rig.provider.authorize(await rig.leave(browser))
        assert (await browser.get(back)).status_code == 303
        response = await browser.get(back)
        assert response.status_code == 403
        rig.provider.redeems_once = False  # a provider that does not care
        back = rig.provider.authorize(await rig.leave(browser))
        assert (await browser.get(back)).status_code == 303
        response = await browser.get(back)
        assert response.json()["error"] == "used already"
        assert len(rig.store.accounts) == 2


async def test_a_code_of_another_sign_in(tmp_path: Path) -> None:
    """A stolen code does not fit the verifier of this browser."""
    async with signing_in(tmp_path) as rig, rig.browser() as anna, rig.browser() as mallory:
        stolen = rig.provider.authorize(await rig.leave(anna))
        code = dict(parse_qsl(urlsplit(stolen).query))["code"]
        back = rig.provider.authorize(await rig.leave(mallory), code=code)
        assert (await mallory.get(back)).status_code == 403
        assert rig.store.accounts == []


async def test_odd_answers(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        await rig.refused(code="x" * 5000)
        assert rig.provider.token_requests == []
        back = rig.provider.authorize(await rig.leave(browser))
        for query in (f"{back}&state=twice", f"{back}&x=%ff", f"{back}&x=" + "x" * 20_000):
            assert (await browser.get(query)).status_code == 403
        assert rig.store.accounts == []


@pytest.mark.parametrize("state", ["", "x", "a.b.c.d.e", "é", "x" * 5000])
async def test_a_broken_state(tmp_path: Path, state: str) -> None:
    async with signing_in(tmp_path) as rig:
        assert "begin again" in await rig.refused(state=state)


async def test_an_answer_of_another_issuer(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        await rig.refused(iss="https://evil.example")
        rig.provider.sends_issuer = "https://evil.example"
        await rig.refused()


async def test_the_issuer_is_compared_when_it_comes(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.provider.sends_issuer = rig.provider.issuer
        assert (await rig.sign_in(browser)).status_code == 303


async def test_an_answer_without_the_announced_issuer(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.discovery = {"authorization_response_iss_parameter_supported": True}
        await rig.refused()


async def test_a_user_who_refuses(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        assert "(access_denied)" in await rig.refused(error="access_denied", code="")
        assert "<" not in await rig.refused(error="<script>", code="")


# Tokens


LIES: list[tuple[str, dict[str, Any]]] = [
    ("other issuer", {"iss": "https://evil.example"}),
    ("two issuers", {"iss": ["https://evil.example"]}),
    ("no issuer", {"iss": None}),
    ("other audience", {"aud": "another-client"}),
    ("no audience", {"aud": None}),
    ("for another party", {"azp": "another-client"}),
    ("several audiences without a party", {"aud": ["0trust", "another-client"]}),
    ("other nonce", {"nonce": "x"}),
    ("no nonce", {"nonce": None}),
    ("no end", {"exp": None}),
    ("no end at all", {"exp": float("nan")}),
    ("an end as text", {"exp": "9999999999"}),
    ("no time", {"iat": None}),
    ("no subject", {"sub": None}),
    ("an empty subject", {"sub": ""}),
    ("a long subject", {"sub": "x" * 256}),
    ("a number as subject", {"sub": 7}),
    ("a subject beyond ASCII", {"sub": "änna"}),
    ("a subject with a line end", {"sub": "a\nb"}),
]


@pytest.mark.parametrize(("case", "lies"), LIES, ids=[case for case, _ in LIES])
async def test_a_lie_in_the_id_token(tmp_path: Path, case: str, lies: dict[str, Any]) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.lies = lies
        await rig.refused()


@pytest.mark.parametrize("way", ["unsigned", "signed_with_public_key", "signed_by_stranger"])
async def test_a_forged_id_token(tmp_path: Path, way: str) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.sign = getattr(rig.provider, way)
        await rig.refused()


@pytest.mark.parametrize(
    "token", [None, "", "x", "a.b.c", 7, ["a.b.c"], "é.é.é", "x" * 200_000, "e30.e30.e30"]
)
async def test_a_malformed_id_token(tmp_path: Path, token: object) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.token_answer = {"id_token": token}
        await rig.refused()


async def test_an_algorithm_that_the_provider_does_not_announce(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.discovery = {"id_token_signing_alg_values_supported": ["RS256"]}
        await rig.refused()


@pytest.mark.parametrize("skew", [-50.0, 50.0])
async def test_a_clock_that_is_50_seconds_off(tmp_path: Path, skew: float) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.provider.skew = skew
        if skew < 0:  # its token expires at once
            now = int(time.time() + skew)
            rig.provider.lies = {"exp": now + 1}
        assert (await rig.sign_in(browser)).status_code == 303


@pytest.mark.parametrize("skew", [-300.0, 300.0])
async def test_a_clock_that_is_5_minutes_off(tmp_path: Path, skew: float) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.skew = skew
        rig.provider.lies = {"exp": int(time.time() + skew) + 60}
        await rig.refused()


async def test_an_rsa_key(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.provider.roll_keys(RSAKey.generate_key(2048, {"kid": "r"}))
        assert (await rig.sign_in(browser)).status_code == 303


async def test_a_weak_key(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        with pytest.warns(match="key size|2048"):
            rig.provider.roll_keys(RSAKey.generate_key(1024, {"kid": "r"}))
        await rig.refused()


async def test_new_keys_are_found(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        assert (await rig.sign_in(browser)).status_code == 303
        rig.provider.roll_keys()
        rig.elapsed += 11
        assert (await rig.sign_in(browser)).status_code == 303
        assert rig.provider.requests.count("/keys") == 2


async def test_the_search_for_unknown_keys_is_rationed(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        honest = rig.provider.keys
        for _ in range(20):
            rig.provider.roll_keys()
            unlisted, rig.provider.keys = rig.provider.keys, honest
            rig.provider.sign = partial(signed_by, unlisted[0])
            await rig.refused()
            rig.elapsed += 1
        assert rig.provider.requests.count("/keys") <= 3


async def test_a_token_without_key_id(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.provider.keys = [ECKey.generate_key("P-256"), ECKey.generate_key("P-256")]
        rig.provider.sign = partial(signed_by, rig.provider.keys[0])
        assert (await rig.sign_in(browser)).status_code == 303


ENTRA: dict[str, Any] = {"kind": "entra", "issuer": None, "trust_email": True}
TENANT = "8f2c0d5e-0000-4000-8000-000000000000"


@pytest.mark.parametrize(("tid", "status"), [(TENANT, 303), ("another", 502), (["x"], 502)])
async def test_another_tenant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tid: object, status: int
) -> None:
    async with OidcProviderServer() as server:
        monkeypatch.setattr(oidc, "issuer_of", lambda _: server.issuer)
        rig = SignInStandIn(server, tmp_path, **ENTRA, tenant=TENANT)
        server.lies = {"tid": tid, "email_verified": None}
        async with rig.browser() as browser:
            assert (await rig.sign_in(browser)).status_code == status
        assert [one.email_verified for one in rig.store.accounts] == [True] * (status == 303)


async def test_an_unverified_address_is_another_user(tmp_path: Path) -> None:
    """The user is provider and `sub`: anna's address opens nothing of hers."""
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.provider.lies = {"sub": "mallory", "email_verified": False}
        assert (await rig.sign_in(browser)).status_code == 303
        [account] = rig.store.accounts
        assert (account.subject, account.email_verified) == ("mallory", False)


# Answers of the provider


async def test_a_provider_that_is_down(tmp_path: Path) -> None:
    """A server starts without its provider; sign-in works as soon as that is back."""
    async with OidcProviderServer() as provider:
        rig = SignInStandIn(provider, tmp_path)
        provider.answers["/.well-known/openid-configuration"] = (503, b"", [])
        async with rig.browser() as browser:
            response = await browser.get("/start/main")
            assert response.status_code == 502
            assert response.json()["error"].startswith("main did not answer as it must")
            for _ in range(5):  # not asked again for each browser
                await browser.get("/start/main")
            assert len(provider.requests) == 1
            provider.answers.clear()
            rig.elapsed += 60
            assert (await rig.sign_in(browser)).status_code == 303


async def test_a_provider_that_goes_away_later(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        assert (await rig.sign_in(browser)).status_code == 303
        rig.provider.answers["/.well-known/openid-configuration"] = (503, b"", [])
        rig.elapsed += 7200  # the documents are old, and better than none
        assert (await rig.sign_in(browser)).status_code == 303
        rig.elapsed += 25 * 3600
        assert (await browser.get("/start/main")).status_code == 502


async def test_a_slow_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        url = await rig.leave(browser)
        monkeypatch.setattr(provider_http, "TIMEOUT", 0.05)
        rig.provider.delay = asyncio.Event()
        response = await browser.get(rig.provider.authorize(url))
        rig.provider.delay.set()
        assert response.status_code == 502
        assert rig.store.accounts == []


async def test_a_provider_that_hangs_does_not_occupy_the_pages(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.provider.delay = asyncio.Event()
        waiting = [asyncio.ensure_future(browser.get("/start/main")) for _ in range(30)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert {one.result().status_code for one in done} == {502}
        rig.provider.delay.set()
        answers = [one.status_code for one in await asyncio.gather(*waiting)]
        assert (answers.count(303), answers.count(502)) == (20, 10)


async def test_sign_ins_go_on_while_old_documents_are_fetched_again(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        await rig.leave(browser)
        rig.elapsed += 3601
        rig.provider.delay = asyncio.Event()
        first = asyncio.ensure_future(browser.get("/start/main"))
        await eventually(lambda: len(rig.provider.requests) == 2, "the document is fetched again")
        assert (await browser.get("/start/main")).status_code == 303
        assert not first.done()
        rig.provider.delay.set()
        assert (await first).status_code == 303


async def test_too_many_exchanges_at_once(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        backs = [rig.provider.authorize(await rig.leave(browser)) for _ in range(25)]
        rig.provider.delay = asyncio.Event()
        waiting = [asyncio.ensure_future(browser.get(back)) for back in backs]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        rig.provider.delay.set()
        answers = [one.status_code for one in await asyncio.gather(*waiting)]
        assert (answers.count(303), answers.count(502)) == (20, 5)


HUGE = b" " * (provider_http.MAX_BYTES + 1)
ANSWERS: list[tuple[int, bytes, list[str]]] = [
    (200, HUGE, []),
    (200, gzip.compress(b"{}"), ["Content-Encoding: gzip"]),
    (200, b"no JSON", []),
    (200, b"[]", []),
    (200, b"[" * 100_000, []),
    (200, b"\xff\xfe", []),
    (204, b"", []),
    (302, b"", ["Location: http://127.0.0.1:1/"]),
    (307, b"", ["Location: /elsewhere"]),
    (500, b"{}", []),
    (403, b"{}", []),
]


@pytest.mark.parametrize(
    "path", ["/.well-known/openid-configuration", "/keys", "/token", "/userinfo"]
)
async def test_an_unusable_answer(tmp_path: Path, path: str) -> None:
    for answer in ANSWERS:
        async with signing_in(tmp_path) as rig, rig.browser() as browser:
            rig.provider.in_user_info = ("email",)
            rig.provider.answers[path] = answer
            response = await browser.get("/start/main")
            if response.status_code == 303:
                back = rig.provider.authorize(response.headers["location"])
                response = await browser.get(back)
            assert response.status_code == 502, answer
            assert rig.store.accounts == []
            assert "/elsewhere" not in rig.provider.requests


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "http://internal.example/token"},
        {"token_endpoint": "file:///etc/passwd"},
        {"token_endpoint": "https://user:password@sso.example/token"},
        {"jwks_uri": 7},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://[/"},
        {"id_token_signing_alg_values_supported": ["none", "HS256"]},
    ],
)
async def test_a_discovery_document_that_is_refused(tmp_path: Path, said: dict[str, Any]) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.provider.discovery = said
        assert (await browser.get("/start/main")).status_code == 502


async def test_a_secret_that_is_wrong_or_missing(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        secret = tmp_path / "client.secret"
        secret.write_text("wrong")
        await rig.refused()
        secret.unlink()
        await rig.refused()


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "<script>"},
        {"error": 7},
        {"error": "temporarily_unavailable"},
        {"access_token": None, "id_token": None},
    ],
)
async def test_an_odd_token_answer(tmp_path: Path, answer: dict[str, Any]) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.answers["/token"] = (400, json.dumps(answer).encode(), [])
        await rig.refused()


# UserInfo


async def test_user_info_is_asked_for_what_the_token_lacks(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        assert (await rig.sign_in(browser)).status_code == 303
        assert "/userinfo" not in rig.provider.requests
        rig.provider.in_user_info = ("email", "email_verified")
        assert (await rig.sign_in(browser)).status_code == 303
        assert rig.provider.requests.count("/userinfo") == 1
        assert rig.store.accounts[0] == rig.store.accounts[1]


async def test_user_info_of_another_user(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.lies = {"sub": "1"}
        rig.provider.in_user_info = ("email",)
        await rig.refused()


@pytest.mark.parametrize("token", [None, 7, "é", "a\nb", ""])
async def test_no_usable_access_token(tmp_path: Path, token: object) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.in_user_info = ("email",)
        rig.provider.token_answer = {"access_token": token}
        await rig.refused()
        assert "/userinfo" not in rig.provider.requests


async def test_a_public_client(tmp_path: Path) -> None:
    """A client without a secret names itself in the request."""
    async with signing_in(tmp_path, client_secret_file=None) as rig, rig.browser() as browser:
        rig.provider.public = True
        assert (await rig.sign_in(browser)).status_code == 303
        assert rig.provider.token_requests[0]["client_id"] == "0trust"


async def test_a_provider_that_takes_the_secret_in_the_form_only(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.provider.discovery = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
        assert (await rig.sign_in(browser)).status_code == 303
        assert rig.provider.token_requests[0]["client_secret"] == SECRET


async def test_user_info_replaces_no_claim(tmp_path: Path) -> None:
    async with signing_in(tmp_path, groups_claim="groups") as rig, rig.browser() as browser:
        rig.provider.lies = {"email": "real@example.com"}
        rig.provider.user["groups"] = ["a"]
        rig.provider.in_user_info = ("groups",)
        assert (await rig.sign_in(browser)).status_code == 303
        assert rig.store.accounts[0].email == "real@example.com"
        assert rig.store.accounts[0].groups == ("a",)


# Proving again, joining accounts, logout link


async def test_proving_again(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:

        async def prove(auth_time: float | None) -> int:
            url = (await browser.get("/start/main?fresh=1")).headers["location"]
            assert {("prompt", "login"), ("max_age", "0")} < set(parse_qsl(urlsplit(url).query))
            rig.provider.lies = {"auth_time": auth_time}
            return (await browser.get(rig.provider.authorize(url))).status_code

        assert await prove(time.time()) == 303
        assert await prove(time.time() - 600) == 403
        assert await prove(None) == 403


async def test_a_browser_has_one_sign_in(tmp_path: Path) -> None:
    """Else signing out would leave the passes of the former one in the browser."""
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        rig.signed_in = sign_in_of("u_1")
        same = await rig.sign_in(browser)
        assert same.status_code == 303 and "__Host-0trust=" not in same.headers["set-cookie"]
        assert (rig.store.renewed, rig.store.signed_out) == (["u_1"], [])
        rig.signed_in = sign_in_of("u_mallory")
        other = await rig.sign_in(browser)
        assert other.status_code == 303 and "__Host-0trust=" in other.headers["set-cookie"]
        assert (rig.store.renewed, rig.store.signed_out) == (["u_1"], ["u_mallory"])


async def test_joining_an_account(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        own = {"sec-fetch-site": "same-origin"}
        assert (await browser.get("/start/main?join=1", headers=own)).status_code == 403
        rig.signed_in = sign_in_of("u_anna", method="device")  # a code may be passed on
        assert (await browser.get("/start/main?join=1", headers=own)).status_code == 403
        rig.signed_in = sign_in_of("u_anna")
        rig.signed_in.proven_at -= 901
        assert (await browser.get("/start/main?join=1", headers=own)).status_code == 403
        rig.signed_in = sign_in_of("u_anna")
        foreign = {"sec-fetch-site": "cross-site"}
        assert (await browser.get("/start/main?join=1", headers=foreign)).status_code == 403
        url = (await browser.get("/start/main?join=1", headers=own)).headers["location"]
        back = rig.provider.authorize(url)
        rig.signed_in = sign_in_of("u_mallory")
        assert (await browser.get(back)).status_code == 403
        # The browser could have made the state itself: its owner has the key.
        rig.signed_in = sign_in_of("u_anna")
        rig.signed_in.proven_at -= 901
        back = rig.provider.authorize(url)
        assert (await browser.get(back)).status_code == 403
        assert rig.store.linked == []
        rig.signed_in = sign_in_of("u_anna")
        back = rig.provider.authorize(url)
        assert (await browser.get(back)).headers["location"] == "/me"
        [(user, account, actor)] = rig.store.linked
        assert (user, account.subject, actor) == ("u_anna", "248289761001", "user anna")
        assert rig.store.accounts == []


async def test_the_logout_page_of_the_provider(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        assert rig.providers.logout_url("main") is None
        assert rig.providers.logout_url("nowhere") is None
        await rig.leave(browser)
        assert rig.providers.logout_url("main") == f"{rig.provider.issuer}/leave?client_id=0trust"


async def test_another_configuration(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as browser:
        await rig.leave(browser)
        rig.providers.reconfigure(rig.access, auth_origin=AUTH)
        await rig.leave(browser)
        assert len(rig.provider.requests) == 1, "an unchanged provider keeps its documents"
        none = Access.model_validate({"auth_host": "auth.example.com"})
        rig.providers.reconfigure(none, auth_origin=AUTH)
        assert (await browser.get("/start/main")).status_code == 404


async def test_google_gets_its_own_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    google = {"kind": "google", "issuer": None, **CHANGED}
    async with OidcProviderServer() as server:
        for module in (oidc, access):
            monkeypatch.setattr(module, "GOOGLE", server.issuer)
        rig = SignInStandIn(server, tmp_path, **google)
        async with rig.browser() as browser:
            url = await rig.leave(browser)
            asked = dict(parse_qsl(urlsplit(url).query))
            assert asked["hd"] == "example.com" and "prompt" not in asked
            assert (await browser.get(server.authorize(url))).status_code == 403
            server.user["hd"] = "example.com"
            assert (await browser.get(server.authorize(url))).status_code == 303
            # Google does not say when the user has proven their identity.
            again = (await browser.get("/start/main?fresh=1")).headers["location"]
            assert "prompt=select_account" in again and "max_age" not in again
            assert (await browser.get(server.authorize(again))).status_code == 303
        rig = SignInStandIn(server, tmp_path, **google, recheck="15m")
        async with rig.browser() as browser:
            url = await rig.leave(browser)
            asked = dict(parse_qsl(urlsplit(url).query))
            assert (asked["access_type"], asked["prompt"]) == ("offline", "consent")
            assert "offline_access" not in asked["scope"]
            assert (await browser.get(server.authorize(url))).status_code == 303
            assert rig.store.accounts[-1].refresh in server.refresh_tokens
