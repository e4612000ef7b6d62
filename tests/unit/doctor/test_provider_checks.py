"""Tests of zerotrust.doctor.provider_checks, with a provider on this machine."""

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest

from tests.support.ports import closed_port
from tests.support.scripted_server import Script, scripted, status
from zerotrust.doctor.provider_checks import (
    ProviderProbe,
    ask_provider,
    judge_provider,
    judge_rules,
)
from zerotrust.model.access import Access, IdentityProvider
from zerotrust.model.doctor import DoctorFacts, Finding, HostFact

pytestmark = pytest.mark.anyio

AUTH = "https://auth.example.com"
URI = f"{AUTH}/in/main"
LOGIN = f"Location: {URI}?error=login_required&state=doctor"


def provider(issuer: str) -> IdentityProvider:
    return IdentityProvider(issuer=issuer, client_id="zero", scopes=["openid"])


async def findings(authorize: bytes, **discovery: Any) -> list[Finding]:
    """Return the findings about a provider that answers a sign-in so."""
    asked: list[str] = []

    def script(head: str) -> bytes:
        asked.append(head)
        base = "http://" + re.findall(r"Host: (\S+)", head)[0]
        if "/.well-known/" not in head:
            return authorize
        document = {
            "issuer": f"{base}/realm",
            "authorization_endpoint": f"{base}/auth",
            **{key: str(value).replace("BASE", base) for key, value in discovery.items()},
        }
        return status(200, body=json.dumps(document).encode())

    async with scripted(script) as port:
        issuer = f"http://127.0.0.1:{port}/realm"
        answer = await ask_provider("main", provider(issuer), auth_origin=AUTH, step_timeout=2)
    if len(asked) > 1:
        assert "prompt=none" in asked[1]
        assert URI in unquote(asked[1])
    return [*judge_provider(answer)]


async def test_a_provider_that_is_well() -> None:
    assert await findings(status(302, LOGIN)) == []
    assert await findings(status(200, body=b"a page")) == []
    assert await findings(status(302, "Location: https://sso.example.com/login")) == []


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        (status(400, body=b"Invalid parameter: redirect_uri"), "provider.redirect_uri"),
        (
            status(302, "Location: https://sso.example.com/error?e=redirect_uri_mismatch"),
            "provider.redirect_uri",
        ),
        (status(302, f"Location: {URI}?error=invalid_scope"), "provider.refused"),
    ],
)
async def test_a_sign_in_that_the_provider_refuses(answer: bytes, check: str) -> None:
    (finding,) = await findings(answer)
    assert finding.check == check
    assert URI in finding.fix or "scopes" in finding.fix


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("BASE/realm/", "only the slash at the end differs"),
        ("BASE/other", "its discovery document"),
    ],
)
async def test_another_issuer(stated: str, said: str) -> None:
    (finding,) = await findings(status(302, LOGIN), issuer=stated)
    assert finding.check == "provider.issuer"
    assert said in finding.seen


def test_http_in_place_of_https() -> None:
    answer = ProviderProbe(
        name="main", issuer="https://a.example/r", redirect_uri=URI, stated="http://a.example/r"
    )
    (finding,) = judge_provider(answer)
    assert finding.seen.endswith("only http and https differ")


async def test_a_sign_in_is_not_sent_to_other_programs() -> None:
    """The endpoint of a provider elsewhere must be over https."""
    assert await findings(status(400), authorization_endpoint="ftp://127.0.0.1/") == []
    assert await findings(status(400), authorization_endpoint=7) == []


@pytest.mark.parametrize(
    "script",
    [
        lambda _: status(404),
        lambda _: status(200, body=b"<html>"),
        lambda _: status(200, body=b"[]"),
        lambda _: status(200, body=b" " * 200_000),
        lambda _: b"",
        lambda _: b"SSH\r\n\r\n",
    ],
)
async def test_a_provider_that_cannot_be_used(script: Script) -> None:
    async with scripted(script) as port:
        issuer = f"http://127.0.0.1:{port}"
        answer = await ask_provider("main", provider(issuer), auth_origin=AUTH, step_timeout=0.3)
    (finding,) = judge_provider(answer)
    assert (finding.check, finding.level) == ("provider.unreachable", "broken")


async def test_a_provider_that_is_down() -> None:
    issuer = f"http://127.0.0.1:{closed_port()}"
    answer = await ask_provider("main", provider(issuer), auth_origin=AUTH, step_timeout=1)
    assert [one.check for one in judge_provider(answer)] == ["provider.unreachable"]


def access(**changes: Any) -> Access:
    main = {"issuer": "https://sso.example.com/r", "client_id": "zero", "groups_claim": "groups"}
    return Access.model_validate(
        {"auth_host": "auth.example.com", "identity_providers": {"main": main}, **changes}
    )


def facts(**changes: Any) -> DoctorFacts:
    return DoctorFacts.model_validate({"version": "1", "unix_time": 0, "descriptors": 1, **changes})


def checks(section: Access, known: DoctorFacts | None = None) -> list[str]:
    return [one.check for one in judge_rules(section, known)]


def test_a_provider_behind_its_own_sign_in() -> None:
    host = "sso.example.com"
    guarded = access(rules=[{"hosts": [host], "allow": "signed_in"}])
    assert checks(guarded) == ["provider.gated"]
    assert checks(access(rules=[{"hosts": [host], "allow": "anyone"}])) == []
    served = HostFact(host=host, agent="home", service="sso")
    assert checks(access(), facts(hosts=[served])) == ["provider.gated"]
    assert checks(access(default="public"), facts(hosts=[served])) == []
    assert checks(access(), facts()) == [], "it is elsewhere"
    assert checks(access()) == []


def test_passkeys_and_groups() -> None:
    found = [*judge_rules(access(), facts(other_passkeys=3, groupless={"main": 7, "old": 1}))]
    assert [(one.check, one.level) for one in found] == [
        ("access.passkeys", "broken"),
        ("provider.groups", "warning"),
        ("provider.groups", "warning"),
    ]
    assert found[0].what == "3 passkeys cannot be used"
    assert found[1].seen == "none of the last 7 users had any in the claim groups"
