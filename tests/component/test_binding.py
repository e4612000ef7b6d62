"""Tests of services on http, https, or both, with the real Caddy."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.backends import Origin, WsEcho
from tests.support.entrypoint import Entrypoint
from tests.support.stack import Authority, Service, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("binding"),
]

USUAL, WS = "usual.localhost", "ws.localhost"
BOTH, BOTH_WS = "both.localhost", "both-ws.localhost"
PLAIN, PLAIN_WS = "plain.localhost", "plain-ws.localhost"
SECURE, SENT = "secure.localhost", "sent.localhost"

FORGED = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "on"), ("Forwarded", "proto=https")]


def services(http: int, ws: int) -> list[Service]:
    return [
        service(USUAL, http),
        service(WS, ws),
        service(BOTH, http, listen_on="both", http_redirect=False),
        service(BOTH_WS, ws, http_redirect=False),
        service(PLAIN, http, listen_on="http"),
        service(PLAIN_WS, ws, listen_on="http"),
        service(SECURE, http, listen_on="https"),
        service(SENT, http, listen_on="https", http_redirect=True),
    ]


@pytest.fixture(scope="module")
async def backends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[int, int]]:
    folder = tmp_path_factory.mktemp("binding-backends")
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        yield origin.port, ws.port


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, backends: tuple[int, int]
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("binding")
    async with Stack(folder, authority, agents={"agent-1": services(*backends)}) as stack:
        await stack.wait_published(SENT)
        yield stack


async def scheme_seen(entrypoint: Entrypoint, host: str, *fields: tuple[str, str]) -> list[str]:
    """Return the client's scheme that the backend is told."""
    response = await entrypoint.get(host, "/echo", *fields)
    assert response.status == 200, response.body
    return [
        value for name, value in response.json()["fields"] if name.lower() == "x-forwarded-proto"
    ]


async def echoes(entrypoint: Entrypoint, host: str) -> bool:
    async with entrypoint.websocket(host) as socket:
        await socket.send("hello")
        return await socket.recv() == "hello"


def certificates(stack: Stack) -> set[str]:
    return {
        path.stem for path in (stack.folder / "caddy" / "storage" / "certificates").rglob("*.crt")
    }


@pytest.mark.parametrize("host", [USUAL, SENT])
@pytest.mark.parametrize(
    ("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)]
)
async def test_http_is_sent_to_https(stack: Stack, host: str, method: str, status: int) -> None:
    async with await stack.plain.open(host) as client:
        for _ in range(2):
            response = await client.request(
                method, "/a%2Fb//?x=%20&&", FORGED, b"body" if method == "POST" else b""
            )
            assert response.status == status
            assert response.get("location") == stack.caddy.url(host, "/a%2Fb//?x=%20&&")
    assert await scheme_seen(stack.caddy, host) == ["https"]


async def test_an_upgrade_is_sent_to_https(stack: Stack) -> None:
    async with await stack.plain.open(WS) as client:
        response = await client.upgrade("/chat", *FORGED)
    assert (response.status, response.get("location")) == (301, stack.caddy.url(WS, "/chat"))
    assert await echoes(stack.caddy, WS)


async def test_both_without_redirect(stack: Stack) -> None:
    assert await scheme_seen(stack.caddy, BOTH, ("X-Forwarded-Proto", "http")) == ["https"]
    assert await scheme_seen(stack.plain, BOTH, *FORGED) == ["http"]
    assert await echoes(stack.caddy, BOTH_WS)
    assert await echoes(stack.plain, BOTH_WS)


async def test_http_only_has_no_certificate(stack: Stack) -> None:
    assert await scheme_seen(stack.plain, PLAIN, *FORGED) == ["http"]
    assert await echoes(stack.plain, PLAIN_WS)
    assert await scheme_seen(stack.caddy, SECURE) == ["https"]
    for host in (PLAIN, PLAIN_WS):
        with pytest.raises(ssl.SSLError, match="internal error"):
            await stack.caddy.get(host, "/")
        assert host not in certificates(stack)
    assert SECURE in certificates(stack)


async def test_https_only_is_not_there_over_http(stack: Stack) -> None:
    for fields in ([], FORGED):
        response = await stack.plain.get(SECURE, "/echo", *fields)
        assert (response.status, response.error_code) == (404, "wrong_scheme")
    assert await scheme_seen(stack.caddy, SECURE) == ["https"]


async def test_a_name_that_nobody_serves_is_sent_nowhere(stack: Stack) -> None:
    response = await stack.plain.get("stranger.localhost", "/")
    assert (response.status, response.error_code, response.get("location")) == (
        404,
        "unknown_host",
        None,
    )


async def test_a_change_holds_at_once_and_disturbs_no_other(
    tmp_path: Path, authority: Authority, backends: tuple[int, int]
) -> None:
    origin, ws = backends
    async with Stack(tmp_path, authority, agents={"agent-1": services(origin, ws)}) as stack:
        agent = stack.agents["agent-1"]
        assert (await stack.caddy.get(USUAL, "/")).status != 404  # Caddy has its certificate now
        async with stack.caddy.websocket(WS) as other:
            agent.set_services([service(WS, ws), service(USUAL, origin, listen_on="http")])

            async def is_plain() -> bool:
                return (await stack.plain.get(USUAL, "/echo")).status == 200

            await eventually(is_plain, "served over http")
            response = await stack.caddy.get(USUAL, "/echo")
            assert (response.status, response.error_code) == (404, "wrong_scheme")
            agent.set_services([service(WS, ws), service(USUAL, origin)])

            async def is_redirected() -> bool:
                return (await stack.plain.get(USUAL, "/echo")).status == 301

            await eventually(is_redirected, "redirected again")
            assert await scheme_seen(stack.caddy, USUAL) == ["https"]
            await other.send("still here")
            assert await other.recv() == "still here"
