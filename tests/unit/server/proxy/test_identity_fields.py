"""Tests of the fields that tell a backend who makes a request, at the ingress."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws

from tests.support.databases import migrated_sqlite
from tests.unit.server.gated_proxy import GatedProxy
from zerotrust.access.profiles import PROFILES
from zerotrust.db.database import Database
from zerotrust.model.server import ProxyApi
from zerotrust.server.access import gatekeeper
from zerotrust.server.access.backend_identity import BackendIdentity
from zerotrust.server.access.identity_keys import IdentityKeys

pytestmark = pytest.mark.anyio

FAMILY = {"allow": [{"group": "family"}, {"machine": "frame"}]}
STYLED = {"access": {"identity": {"headers": "remote_user"}}}
MAPPED = {"access": {"identity": {"jwt": False, "headers": {"X-Person": "preferred_username"}}}}
OPEN = {**FAMILY, "paths": [{"match": ["/open"], "allow": "anyone"}]}


@pytest.fixture
async def identity(tmp_path: Path) -> AsyncIterator[BackendIdentity]:
    database = Database.open(migrated_sqlite(tmp_path / "state.db"))
    keys = IdentityKeys(database, tmp_path)
    await keys.load()
    yield BackendIdentity(keys, "auth.example.com")
    database.close()


def gated(identity: BackendIdentity, *rules: dict[str, Any], **options: Any) -> GatedProxy:
    proxy = GatedProxy(*rules, **options)
    proxy.gatekeeper.identity = identity
    return proxy


async def ask_anew(proxy: GatedProxy, start: str, *fields: str, **options: Any) -> bytes:
    """Send a request on a connection of its own."""
    proxy.connect()
    return await proxy.ask(start, *fields, **options)


def fields_of(block: bytes, *names: str) -> dict[str, str]:
    """Return the fields of these names in a block; each occurs once at most."""
    lines = [line.split(": ", 1) for line in block.decode("latin-1").splitlines()[1:]]
    found = [(name, value) for name, value in lines if name in names]
    assert len(found) == len(dict(found))
    return dict(found)


async def test_the_backend_is_told_who_makes_the_request(identity: BackendIdentity) -> None:
    proxy = gated(identity, FAMILY)
    cookie, _ = proxy.enter()
    for _ in range(2):
        await ask_anew(proxy, "GET /", cookie)
    first, second = (
        fields_of(opened.block, "X-0Trust-Jwt-Assertion")["X-0Trust-Jwt-Assertion"]
        for opened in proxy.opened
    )
    assert first == second
    assert b'"preferred_username":"anna"' in jws.extract_compact(first.encode()).payload


@pytest.mark.parametrize("policy", [STYLED, {**STYLED, "max_request_body": "1MB"}])
async def test_plain_fields_of_the_service(
    identity: BackendIdentity, policy: dict[str, Any]
) -> None:
    proxy = gated(identity, FAMILY, policy=policy)
    cookie, _ = proxy.enter()
    await proxy.ask("GET /", cookie, "Remote-User: evil", "Remote_Groups: admins")
    assert fields_of(proxy.opened[0].block, "Remote-User", "Remote-Groups", "Remote_Groups") == {
        "Remote-User": "anna",
        "Remote-Groups": "family",
    }


@pytest.mark.parametrize("spelling", ["X-Person", "x_person", "X.PERSON"])
async def test_names_of_a_map_are_the_servers(identity: BackendIdentity, spelling: str) -> None:
    proxy = gated(identity, OPEN, policy=MAPPED)
    cookie, _ = proxy.enter()
    await ask_anew(proxy, "GET /", cookie, f"{spelling}: evil")
    await ask_anew(proxy, "GET /open", f"{spelling}: evil")
    named, stranger = proxy.opened
    assert b"\r\nX-Person: anna\r\n" in named.block
    assert b"person" not in stranger.block.lower()
    assert b"evil" not in named.block


async def test_a_policy_of_the_service_does_not_say_who_it_is(identity: BackendIdentity) -> None:
    edits = {"type": "headers", "config": {"request": {"set": {"Remote-User": "root"}}}}
    policy = {**STYLED, "routes": [{"handle": [edits]}]}
    proxy = gated(identity, FAMILY, policy=policy)
    cookie, _ = proxy.enter()
    await proxy.ask("GET /", cookie)
    assert fields_of(proxy.opened[0].block, "Remote-User") == {"Remote-User": "anna"}


async def test_a_machine_is_told_by_its_id(identity: BackendIdentity) -> None:
    proxy = gated(identity, FAMILY, policy=STYLED)
    secret, _ = proxy.token()
    await proxy.ask("GET /", f"X-0Trust-Token: {secret}")
    assert fields_of(proxy.opened[0].block, "Remote-User") == {"Remote-User": "machine:frame"}


async def test_trailers_do_not_undo_it(identity: BackendIdentity) -> None:
    proxy = gated(
        identity, FAMILY, policy=MAPPED, api=ProxyApi(pass_trailers=["X-Person", "X-Other"])
    )
    cookie, _ = proxy.enter()
    await proxy.ask(
        "POST /",
        cookie,
        "Transfer-Encoding: chunked",
        body=b"1\r\nx\r\n0\r\nX-Person: evil\r\nX-Other: kept\r\n\r\n",
    )
    _, sink = proxy.last
    assert sink.trailer == b"X-Other: kept\r\n"


async def test_identity_on_a_public_host_removes_what_clients_send(
    identity: BackendIdentity,
) -> None:
    proxy = gated(identity, default="public", policy=MAPPED)
    await proxy.ask("GET /", "X-Person: evil", "Cf-Access-Jwt-Assertion: evil", "X-App: 1")
    assert b"evil" not in proxy.opened[0].block
    assert b"\r\nX-App: 1\r\n" in proxy.opened[0].block


async def test_other_public_hosts_are_left_alone(identity: BackendIdentity) -> None:
    proxy = gated(identity, default="public")
    await proxy.ask("GET /", "Cf-Access-Jwt-Assertion: theirs", "X-Person: me")
    block = proxy.opened[0].block
    assert b"theirs" in block
    assert b"X-Person: me" in block


async def test_a_server_without_sign_in_removes_them_too() -> None:
    proxy = GatedProxy(default="public", policy=MAPPED)
    proxy.ingress.use_gates(None)
    await proxy.ask("GET /", "X-Person: evil")
    assert b"evil" not in proxy.opened[0].block


async def test_a_profile_is_limited_for_strangers_alone(
    identity: BackendIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatekeeper, "monotonic", lambda: 1.0)
    most = PROFILES["home_assistant"].requests
    proxy = gated(identity, {**FAMILY, "profile": "home_assistant"})
    for _ in range(most):
        assert await ask_anew(proxy, "POST /api/webhook/a") == b""
    said = await ask_anew(proxy, "POST /api/webhook/a")
    assert said.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: 1\r\n" in said
    assert len(proxy.opened) == most
    assert await ask_anew(proxy, "POST /api/webhook/a", client="198.51.100.1") == b""
    cookie, _ = proxy.enter()
    assert await ask_anew(proxy, "POST /api/webhook/a", cookie) == b""
