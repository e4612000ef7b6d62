"""Tests of sign-in at a real OpenID Connect provider, `oidc-provider` in Node."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urljoin

import httpx2
import pytest

from tests.support import node_packages
from tests.support.auth_host import AUTH, AuthHost
from tests.support.node_packages import NodeServer
from tests.support.oidc_provider import SECRET
from tests.support.people import stores
from tests.support.ports import free_port
from tests.support.waiting import eventually
from zerotrust.access.secret_format import digest_of
from zerotrust.access.subject import ACCESS_WITHDRAWN, SIGNED_OUT, Credential
from zerotrust.server.access.refresh_seal import RefreshSeal
from zerotrust.server.access.sign_ins import SignIns
from zerotrust.server.portal.provider_recheck import Rechecks

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("applications"),
]


@pytest.fixture(scope="module")
def node() -> Path:
    """Return the folder with the programs of Node."""
    return node_packages.install()


class Scenario:
    """A provider, the auth host's pages, and the endpoint at which the provider calls them.

    Attributes:
        logouts: status codes of the answers to the provider's messages.
    """

    def __init__(self, node: Path, folder: Path) -> None:
        self.port, self._logout_port = free_port(), free_port()
        self._node, self._folder = node, folder
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.host = AuthHost(self.issuer, folder, recheck="15m", groups_claim="groups")
        self.logouts: list[int] = []

    def server(self) -> NodeServer:
        """Return the provider, which has new keys."""
        logout = f"http://127.0.0.1:{self._logout_port}/out/main"
        program = self._node / "oidc_provider.mjs"
        return NodeServer(self._folder, program, self.port, AUTH, logout, SECRET)

    async def listen(self) -> asyncio.Server:
        """Take the provider's messages as Caddy does in front of the server."""
        return await asyncio.start_server(self._forward, "127.0.0.1", self._logout_port)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None, head
        body = await reader.readexactly(int(length[1]))
        fields = {"content-type": "application/x-www-form-urlencoded"}
        async with self.host.browser() as client:
            answer = await client.post("/out/main", content=body, headers=fields)
        self.logouts.append(answer.status_code)
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % answer.status_code)
        writer.close()

    def browser(self) -> httpx2.AsyncClient:
        """Return a browser, which reaches both hosts."""
        pages = httpx2.ASGITransport(app=self.host.app)
        return httpx2.AsyncClient(mounts={AUTH: pages}, base_url=AUTH, trust_env=False)

    async def at_provider(self, browser: httpx2.AsyncClient, url: str, name: str) -> str:
        """Sign in at the provider and consent; return the URL that it leads back to."""
        for _ in range(12):
            answer = await browser.get(url)
            while answer.has_redirect_location:
                url = urljoin(url, answer.headers["location"])
                if url.startswith(f"{AUTH}/in/"):
                    return url
                answer = await browser.get(url)
            assert answer.status_code == 200, answer.text
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            action = re.search(r'action="([^"]+)"', answer.text)
            assert prompt is not None and action is not None, answer.text
            form = {"prompt": prompt[1], "login": name, "password": "x"}
            answer = await browser.post(urljoin(url, action[1]), data=form)
            url = urljoin(url, answer.headers["location"])
        raise AssertionError(f"the provider does not lead back: {url}")

    async def sign_in(self, browser: httpx2.AsyncClient, name: str) -> httpx2.Response:
        """Sign in; return the answer of the auth host."""
        back = await self.at_provider(browser, await self.host.leave(browser), name)
        return await browser.get(back)

    async def sign_out(self, browser: httpx2.AsyncClient) -> None:
        """Sign out at the provider, and wait until it has told the auth host."""
        url = self.host.providers.logout_url("main")
        assert url is not None
        page = (await browser.get(url)).text
        proof = re.search(r'name="xsrf" value="([^"]+)"', page)
        assert proof is not None, page
        form = {"xsrf": proof[1], "logout": "yes"}
        answer = await browser.post(f"{self.issuer}/session/end/confirm", data=form)
        assert answer.status_code in (200, 302, 303), answer.text
        await eventually(lambda: self.logouts, "the provider says so")
        assert self.logouts == [200]


@asynccontextmanager
async def scenario(node: Path, folder: Path) -> AsyncIterator[Scenario]:
    one = Scenario(node, folder)
    async with one.server(), await one.listen():
        yield one


async def test_sign_in_recheck_and_refusal(node: Path, tmp_path: Path) -> None:
    async with scenario(node, tmp_path) as one, one.browser() as browser:
        answer = await one.sign_in(browser, "anna")
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"].startswith("/go?host=app.example.com&to=%2Fx%3Fy%3D1&n=")
        [account] = one.host.store.accounts
        assert (account.subject, account.email) == ("anna", "anna@example.com")
        assert (account.email_verified, account.groups) == (True, ("staff",))
        assert account.session and account.refresh

        store = one.host.store
        checks = Rechecks(cast("SignIns", store), one.host.providers)
        store.due = [("main", "anna", account.refresh)]
        await checks.recheck()
        [again] = store.rechecks
        assert (again.subject, again.groups) == ("anna", ("staff",))
        assert again.refresh and store.refused == []

        assert (await browser.delete(f"{one.issuer}/users/anna")).status_code == 204
        store.due = [("main", "anna", again.refresh)]
        await checks.recheck()
        assert store.refused == [("main", "anna")]


async def test_a_code_is_good_once_and_for_one_browser(node: Path, tmp_path: Path) -> None:
    async with scenario(node, tmp_path) as one, one.browser() as anna, one.browser() as mallory:
        back = await one.at_provider(anna, await one.host.leave(anna), "anna")
        await one.host.leave(mallory)
        assert (await mallory.get(back)).status_code == 403
        assert (await anna.get(back)).status_code == 303
        assert (await anna.get(back)).status_code == 403
        assert len(one.host.store.accounts) == 1


async def test_proving_again(node: Path, tmp_path: Path) -> None:
    async with scenario(node, tmp_path) as one, one.browser() as browser:
        assert (await one.sign_in(browser, "anna")).status_code == 303
        url = (await browser.get("/start/main?fresh=1")).headers["location"]
        back = await one.at_provider(browser, url, "anna")
        assert (await browser.get(back)).status_code == 303


async def test_logout_at_the_provider_ends_the_sign_in(node: Path, tmp_path: Path) -> None:
    async with scenario(node, tmp_path) as one, one.browser() as browser:
        assert (await one.sign_in(browser, "anna")).status_code == 303
        session = one.host.store.accounts[0].session
        await one.sign_out(browser)
        assert one.host.store.logouts == [("main", session, "anna")]


async def test_a_provider_with_new_keys(node: Path, tmp_path: Path) -> None:
    one = Scenario(node, tmp_path)
    async with one.server(), one.browser() as browser:
        assert (await one.sign_in(browser, "anna")).status_code == 303
    async with one.browser() as browser:
        # While it is away, the sign-in page says so, and nothing ends.
        back = f"{AUTH}/in/main?code=x&state=y"
        assert (await browser.get(back)).status_code == 403
        async with one.server():
            one.host.elapsed += 60
            assert (await one.sign_in(browser, "ben")).status_code == 303
    assert [account.subject for account in one.host.store.accounts] == ["anna", "ben"]


async def test_sign_ins_in_the_database(node: Path, tmp_path: Path) -> None:
    """Sign in, lose a group, be refused; then sign out at the provider."""
    with stores(f"sqlite:///{tmp_path}/state.db") as servers:
        store = await servers.start(
            identity_providers={"main": {"issuer": "https://x", "client_id": "c", "recheck": "15m"}}
        )
        store.clock.now = time.time()
        sign_ins = SignIns(store.state, seal=RefreshSeal.load(tmp_path))
        async with scenario(node, tmp_path) as one, one.browser() as browser:
            one.host.site.sign_ins = sign_ins
            checks = Rechecks(sign_ins, one.host.providers)

            async def signed_in(name: str) -> Credential:
                answer = await one.sign_in(browser, name)
                assert answer.status_code == 303, answer.text
                value = answer.cookies["__Host-0trust"]
                credential = store.state.index.find(digest_of(value.encode()))
                assert credential is not None
                return credential

            anna = await signed_in("anna")
            assert anna.subject.groups == {"main/staff"}
            assert anna.subject.emails == {"anna@example.com"}
            assert anna.proven_at == 0, "this provider does not say when"
            assert await sign_ins.due_rechecks() == []
            store.clock.now += 901
            [(_, _, token)] = await sign_ins.due_rechecks()
            stored = b"".join(file.read_bytes() for file in tmp_path.glob("state.db*"))
            assert b"anna@example.com" in stored and token.encode() not in stored
            await checks.recheck()
            assert anna.end_reason(store.clock.now) == ""
            assert await sign_ins.due_rechecks() == [], "asked again in 15 minutes"

            await browser.delete(f"{one.issuer}/users/anna")
            store.clock.now += 901
            await checks.recheck()
            assert anna.ended == ACCESS_WITHDRAWN

        async with scenario(node, tmp_path) as one, one.browser() as browser:
            one.host.site.sign_ins = sign_ins
            ben = await signed_in("ben")
            await one.sign_out(browser)
            assert ben.ended == SIGNED_OUT
