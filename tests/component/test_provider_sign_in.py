"""Tests of a company's sign-in on the whole chain: Caddy, server, agent, and a real provider."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support import node_packages
from tests.support.backends import Origin, WsEcho
from tests.support.commands import Commands
from tests.support.http_browser import HttpBrowser
from tests.support.node_packages import NodeServer
from tests.support.oidc_provider import CLIENT_ID, SECRET
from tests.support.ports import free_port
from tests.support.stack import Authority, Stack, service

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("applications"),
]

AUTH, APP, CHAT, OPS = "auth.localhost", "app.localhost", "chat.localhost", "ops.localhost"


@dataclass
class Company:
    """A server with two services, and the identity provider of the company."""

    stack: Stack
    issuer: str
    commands: Commands

    def url(self, host: str, path: str = "/") -> str:
        return self.stack.caddy.url(host, path)

    def browser(self) -> HttpBrowser:
        return HttpBrowser(self.stack.caddy)

    async def sign_in(
        self, browser: HttpBrowser, name: str, *, host: str = APP, path: str = "/hello?a=%2F&b"
    ) -> httpx2.Response:
        """Open a page of a service, sign in at the provider; return where that leads."""
        page = await browser.open(self.url(host, path))
        assert str(page.url).startswith(self.url(AUTH, "/go?")), page.url
        page = await browser.follow(page, "Sign in with The Company")
        return await self.at_provider(browser, page, name)

    async def at_provider(
        self, browser: HttpBrowser, page: httpx2.Response, name: str
    ) -> httpx2.Response:
        """Sign in and consent at the provider."""
        for _ in range(3):
            if not str(page.url).startswith(self.issuer):
                return page
            page = await browser.submit(page, login=name, password="x")
        return page

    def chat(self, browser: HttpBrowser) -> connect:
        """Open a WebSocket with the pass of a browser."""
        return self.stack.caddy.websocket(
            CHAT,
            additional_headers={"Cookie": browser.cookie(CHAT)},
            origin=self.url(CHAT, "").rstrip("/"),
        )


@asynccontextmanager
async def company(folder: Path, authority: Authority) -> AsyncIterator[Company]:
    node = node_packages.install()
    secret = folder / "client.secret"
    secret.write_text(SECRET)
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    access = {
        "auth_host": AUTH,
        "identity_providers": {
            "main": {
                "title": "The Company",
                "issuer": issuer,
                "client_id": CLIENT_ID,
                "client_secret_file": str(secret),
                "groups_claim": "groups",
                "recheck": "60s",
            }
        },
        "rules": [
            {"hosts": [APP, CHAT], "allow": [{"group": "main/staff"}]},
            {"hosts": [OPS], "allow": [{"group": "main/ops"}]},
        ],
    }
    async with Origin(folder) as origin, WsEcho(folder) as echo:
        services = [
            service(APP, origin.port),
            service(CHAT, echo.port),
            service(OPS, origin.port),
        ]
        agents = {"agent-1": services}
        stack = Stack(folder / "stack", authority, agents=agents, sections={"access": access})
        async with stack:
            agent = stack.agents["agent-1"].process
            for host in (APP, CHAT, OPS):
                await agent.wait_line(f"service registered.*{host}")
            for host in (AUTH, APP, CHAT, OPS):
                await stack.caddy.get(host, "/")  # Caddy makes its certificate
            own = f"https://{AUTH}:{stack.https_port}"
            # The provider comes after the server, and calls it through Caddy.
            provider = NodeServer(
                *(folder, node / "oidc_provider.mjs", port),
                *(own, f"{own}/out/main", SECRET),
                authority=stack.caddy_root,
            )
            async with provider:
                commands = Commands(stack.folder / "state" / "admin.sock")
                yield Company(stack, issuer, commands)


async def test_one_sign_in_opens_the_services_and_ends_with_the_provider(
    tmp_path: Path, authority: Authority
) -> None:
    async with company(tmp_path, authority) as one, one.browser() as anna, one.browser() as ben:
        page = await one.sign_in(anna, "anna")
        assert str(page.url) == one.url(APP, "/hello?a=%2F&b")
        assert page.status_code not in (401, 403), page.text
        # The second service needs no sign-in.
        await anna.open(one.url(CHAT))
        assert not any(url.startswith(one.issuer) for url in anna.visited[-6:])
        # A service for others says so at the auth host.
        page = await anna.open(one.url(OPS))
        assert (page.status_code, page.url.host) == (403, AUTH)
        await one.sign_in(ben, "ben", host=CHAT, path="/")

        async with one.chat(anna) as hers, one.chat(ben) as his:
            await hers.send("hello")
            assert await hers.recv() == "hello"
            # Anna signs out at the provider, which tells the server.
            page = await anna.open(f"{one.issuer}/session/end?client_id={CLIENT_ID}")
            begun_at = time.monotonic()
            await anna.submit(page, logout="yes")
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(10):
                    await hers.recv()
            assert time.monotonic() - begun_at < 2
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "signed out")
            await his.send("still here")
            assert await his.recv() == "still here"
        page = await anna.open(one.url(APP))
        assert page.url.host == AUTH
        log = one.stack.server.text()
        assert SECRET not in log and "code_verifier" not in log and "refresh_token" not in log


async def test_ten_tabs_sign_in_at_once(tmp_path: Path, authority: Authority) -> None:
    async with company(tmp_path, authority) as one, one.browser() as browser:
        paths = [f"/tab/{number}" for number in range(10)]
        pages = [await browser.open(one.url(APP, path)) for path in paths]
        assert {page.url.path for page in pages} == {"/go"}
        # All tabs are sent to the provider before the first of them is signed in.
        pages = [await browser.follow(page, "Sign in with The Company") for page in pages]
        ends = [str((await one.at_provider(browser, page, "anna")).url) for page in pages]
        assert ends == [one.url(APP, path) for path in paths]
