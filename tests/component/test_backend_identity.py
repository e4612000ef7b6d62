"""Tests of what backends are told about the one who makes a request.

The backend verifies the assertion as Grafana does, by the keys that it fetches through Caddy.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.assertion_backend import AssertionBackend
from tests.support.assertion_verifier import HEADER, AssertionVerifier
from tests.support.client import Response
from tests.support.commands import Commands
from tests.support.entrypoint import Entrypoint
from tests.support.stack import Authority, Stack, service

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("backend_identity"),
]

HOST, OPEN = "grafana.localhost", "open.localhost"
JWKS = "/.well-known/0trust/jwks.json"
ACCESS = {
    "auth_host": "auth.localhost",
    "default": "public",
    "users": [{"name": "anna", "email": "anna@example.com", "groups": ["staff", "family"]}],
    "rules": [
        {
            "hosts": [HOST],
            "allow": [{"group": "staff"}, {"machine": "ci"}],
            "paths": [{"match": ["/open"], "allow": "anyone"}],
        }
    ],
}
SPOOFED = [
    (HEADER, "a.b.c"),
    (HEADER.replace("-", "_"), "a.b.c"),
    ("X-WEBAUTH-USER", "evil"),
    ("x_webauth_user", "evil"),
    ("Remote-User", "evil"),
    ("X-Forwarded-User", "evil"),
    ("Cf-Access-Jwt-Assertion", "evil"),
    ("X.Pomerium.Jwt.Assertion", "evil"),
]


@dataclass
class Office:
    """A backend behind 0Trust, with a token of Anna's app and one of a machine."""

    backend: AssertionBackend
    caddy: Entrypoint
    app: str
    machine: str

    async def get(self, token: str, *fields: tuple[str, str], path: str = "/") -> Response:
        """Send a request with a token."""
        return await self.caddy.get(HOST, path, ("X-0Trust-Token", token), *fields)


@pytest.fixture(scope="module")
async def office(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Office]:
    folder: Path = tmp_path_factory.mktemp("office")
    entrypoints: list[Entrypoint] = []

    async def fetch_keys() -> bytes:
        answer = await entrypoints[0].get(HOST, JWKS)
        assert answer.status == 200
        return answer.body

    verifier = AssertionVerifier(
        issuer="https://auth.localhost", audience=f"https://{HOST}", fetch_keys=fetch_keys
    )
    backend = AssertionBackend(verifier)
    async with backend:
        services = [
            service(HOST, backend.port, access={"identity": {"headers": "webauth"}}),
            service(OPEN, backend.port),
        ]
        async with Stack(
            folder, authority, agents={"agent-1": services}, sections={"access": ACCESS}
        ) as stack:
            entrypoints.append(stack.caddy)
            await stack.wait_published(OPEN)
            commands = Commands(stack.folder / "state" / "admin.sock")
            app = await commands("app", "create", "--user", "anna", "--name", "cli")
            machine = await commands("machine", "create", "ci")
            assert (app.code, machine.code) == (0, 0), (app, machine)
            yield Office(backend, stack.caddy, app.out.strip(), machine.out.strip())


async def test_the_backend_verifies_who_it_is(office: Office) -> None:
    answer = await office.get(office.app)
    assert answer.status == 200
    claims = answer.json()
    assert claims["preferred_username"] == "anna"
    assert claims["email"] == "anna@example.com"
    assert claims["groups"] == ["staff"]
    assert 0 < claims["exp"] - claims["iat"] <= 300
    assert (await office.get(office.machine)).json()["sub"] == "machine:ci"


async def test_the_keys_are_fetched_once(office: Office) -> None:
    for _ in range(3):
        assert (await office.get(office.app)).status == 200
    assert office.backend.verifier.fetches == 1


async def test_plain_fields_beside_the_assertion(office: Office) -> None:
    await office.get(office.app)
    headers = office.backend.requests[-1].headers
    assert headers["X-WEBAUTH-USER"] == "anna"
    assert headers["X-WEBAUTH-EMAIL"] == "anna@example.com"
    assert headers["X-WEBAUTH-GROUPS"] == "staff"
    assert "X-0Trust-Token" not in headers


async def test_spoofed_fields_reach_no_backend(office: Office) -> None:
    assert (await office.get(office.app, *SPOOFED)).json()["preferred_username"] == "anna"
    sent = list(office.backend.requests[-1].headers.raw_items())
    assert not any(value in ("evil", "a.b.c") for _, value in sent)
    assert (await office.caddy.get(HOST, "/open", *SPOOFED)).status == 401  # by the backend
    sent = list(office.backend.requests[-1].headers.raw_items())
    assert not any(value in ("evil", "a.b.c") for _, value in sent)


async def test_elsewhere_fields_of_other_proxies_pass(office: Office) -> None:
    await office.caddy.get(OPEN, "/", ("Cf-Access-Jwt-Assertion", "theirs"))
    assert office.backend.requests[-1].headers["Cf-Access-Jwt-Assertion"] == "theirs"


async def test_the_keys_are_open_on_both_hosts_and_cached(office: Office) -> None:
    for host in (HOST, "auth.localhost"):
        answer = await office.caddy.get(host, JWKS)
        assert answer.status == 200
        assert answer.get("cache-control") == "public, max-age=300"
        (key,) = answer.json()["keys"]
        assert (key["kty"], key["alg"], key["use"]) == ("EC", "ES256", "sig")
        assert "d" not in key
