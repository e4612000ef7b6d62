"""Tests of zerotrust.server.portal.provider_logout."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.oidc_provider import LOGOUT_EVENT
from tests.unit.server.portal.provider_stand_in import SignInStandIn, signing_in

pytestmark = pytest.mark.anyio

FORM = {"content-type": "application/x-www-form-urlencoded"}


async def post(rig: SignInStandIn, token: object, *, to: str = "main") -> int:
    async with rig.browser() as provider:
        response = await provider.post(f"/out/{to}", data={"logout_token": token})
    assert response.headers["cache-control"] == "no-store"
    return response.status_code


async def test_a_session_ends(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        assert await post(rig, rig.provider.logout_token(sid="s1")) == 200
        assert await post(rig, rig.provider.logout_token(sid="s1", sub=None)) == 200
        assert await post(rig, rig.provider.logout_token()) == 200
        assert rig.store.logouts == [
            ("main", "s1", "248289761001"),
            ("main", "s1", ""),
            ("main", "", "248289761001"),
        ]


async def test_a_token_counts_once(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        token = rig.provider.logout_token()
        assert await post(rig, token) == 200
        assert await post(rig, token) == 400
        assert await post(rig, token, to="other") == 200
        assert len(rig.store.logouts) == 2


LIES: list[dict[str, Any]] = [
    {"iss": "https://evil.example"},
    {"aud": "another-client"},
    {"events": None},
    {"events": {}},
    {"events": [LOGOUT_EVENT]},
    {"events": {LOGOUT_EVENT: True}},
    {"nonce": "n"},
    {"jti": None},
    {"jti": 7},
    {"jti": "x" * 300},
    {"iat": None},
    {"iat": -600},
    {"iat": 600},
    {"exp": -600},
    {"sub": None},
    {"sub": ["a"]},
    {"sid": {"a": 1}},
]


@pytest.mark.parametrize("lie", LIES, ids=str)
async def test_a_lie(tmp_path: Path, lie: dict[str, Any]) -> None:
    async with signing_in(tmp_path) as rig:
        said = {  # times are from now
            name: int(time.time()) + value if name in ("iat", "exp") and value else value
            for name, value in lie.items()
        }
        assert await post(rig, rig.provider.logout_token(**said)) == 400
        assert rig.store.logouts == []


@pytest.mark.parametrize("way", ["unsigned", "signed_with_public_key", "signed_by_stranger"])
async def test_a_forged_token(tmp_path: Path, way: str) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.sign = getattr(rig.provider, way)
        assert await post(rig, rig.provider.logout_token()) == 400
        assert rig.store.logouts == []


async def test_an_id_token_is_no_logout_token(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        assert await post(rig, rig.provider.signed(rig.provider.claims(nonce="n"))) == 400
        assert await post(rig, rig.provider.signed(rig.provider.claims())) == 400


async def test_a_logout_token_is_no_id_token(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig:
        rig.provider.token_answer = {"id_token": rig.provider.logout_token()}
        await rig.refused()


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (FORM, b""),
        (FORM, b"logout_token="),
        (FORM, b"logout_token=a&logout_token=b"),
        (FORM, b"logout_token=\xff"),
        (FORM, b"a=b&" * 100),
        (FORM, b"logout_token=" + b"x" * 200_000),
        ({"content-type": "application/json"}, b'{"logout_token": "x"}'),
        ({}, b"logout_token=x"),
    ],
)
async def test_an_odd_request(tmp_path: Path, fields: dict[str, str], body: bytes) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as provider:
        response = await provider.post("/out/main", content=body, headers=fields)
        assert response.status_code == 400
        assert rig.provider.requests == []


async def test_a_provider_that_is_down_or_unknown(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as rig, rig.browser() as provider:
        token = rig.provider.logout_token()
        assert await post(rig, token, to="nowhere") == 404
        rig.provider.answers["/keys"] = (503, b"", [])
        assert await post(rig, token) == 400
        rig.provider.answers.clear()
        rig.elapsed += 60
        assert await post(rig, token) == 200
        assert (
            await provider.get(f"/out/main?{urlencode({'logout_token': token})}")
        ).status_code == 405
