"""Tests of zerotrust.server.access_section: access is turned on, changed and off by a reload."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.imports import imported_by
from tests.support.inprocess_stack import Backend, RunningServer, StackFiles, dialling, serving
from tests.support.people import CHALLENGE, VERIFIER
from tests.support.waiting import eventually
from zerotrust.errors import SetupError
from zerotrust.server.access.sign_ins import BrowserInfo
from zerotrust.server.access_service import AccessService

pytestmark = pytest.mark.anyio

APP, AUTH = "app.example.com", "auth.example.com"
ADMIN = "admin.example.com"
ACCESS: dict[str, Any] = {
    "auth_host": AUTH,
    "default": "public",
    "rules": [{"hosts": [APP], "allow": [{"machine": "ci"}]}],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StackFiles:
    return StackFiles(tmp_path_factory.mktemp("access"))


@pytest.fixture
async def running(files: StackFiles) -> AsyncIterator[RunningServer]:
    async with serving(files) as running:
        yield running


def test_a_server_without_access_does_not_import_what_only_access_needs() -> None:
    modules = imported_by("zerotrust.server.app")
    unneeded = {"alembic", "authlib", "fido2", "jinja2", "rich", "segno", "starlette"}
    assert not unneeded & modules
    assert not {name for name in modules if name.startswith("zerotrust.server.portal")}


async def test_access_comes_changes_and_goes_by_a_reload(
    running: RunningServer, files: StackFiles
) -> None:
    async with (
        Backend("b").listening() as backend,
        dialling(
            files.agent(
                {"hostname": APP, "backend": f"127.0.0.1:{backend.port}"},
                {"hostname": AUTH, "backend": f"127.0.0.1:{backend.port}"},
            )
        ),
    ):
        await eventually(lambda: has_status(running, AUTH, 200), "the services are published")
        assert await running.change(files.server(access=ACCESS)) == []
        assert await running.status(APP) == 401
        assert await running.status(AUTH) == 200, "the server's own page"
        assert running.server.agents.authorization.reserved == {AUTH}
        assert running.server.agents.registry.agents_of(AUTH) == []
        other = {**ACCESS, "auth_host": "login.example.com", "rules": []}
        assert await running.change(files.server(access=other)) == []
        assert await running.status(APP) == 200
        assert running.server.agents.authorization.reserved == {"login.example.com"}
        await running.change(files.server())
        assert running.server.access.service is None
        assert await running.status(APP) == 200


async def test_a_service_that_needs_access_is_published_when_access_comes(
    running: RunningServer, files: StackFiles
) -> None:
    narrowing = {"require": [{"signed_in": True}]}
    async with Backend("b").listening() as backend:
        address = f"127.0.0.1:{backend.port}"
        services = (
            {"hostname": APP, "backend": address, "access": narrowing},
            {"hostname": "open.example.com", "backend": address},
        )
        async with dialling(files.agent(*services)):
            await eventually(lambda: has_status(running, "open.example.com", 200), "published")
            assert await running.status(APP) == 404
            assert running.server.agents.registry.agents_of(APP) == []
            await running.change(files.server(access=ACCESS))
            await eventually(
                lambda: running.server.agents.registry.agents_of(APP), "published, too"
            )
            assert await running.status(APP) == 401


async def has_status(running: RunningServer, host: str, status: int) -> bool:
    return await running.status(host) == status


async def test_nothing_changes_if_the_database_of_countries_cannot_be_read(
    running: RunningServer, files: StackFiles, tmp_path: Path
) -> None:
    broken = tmp_path / "countries.mmdb"
    broken.write_bytes(b"?")
    access = {**ACCESS, "geo": {"database": str(broken)}}
    with pytest.raises(SetupError, match=r"access\.geo\.database: cannot read"):
        await running.change(files.server(access=access))
    assert running.server.access.service is None
    assert running.server.agents.authorization.reserved == frozenset()


async def test_a_server_starts_with_access(files: StackFiles) -> None:
    async with serving(files, files.server(access=ACCESS)) as running:
        assert await running.status(APP) == 401
        assert await running.status(AUTH) == 200


async def test_a_server_that_stops_does_not_wait_for_open_dashboards(files: StackFiles) -> None:
    access = {**ACCESS, "admin_host": ADMIN, "admins": [{"group": "admins"}]}
    async with serving(files, files.server(access=access)) as running:
        service = running.server.access.service
        assert service is not None
        cookie = await administrator(service)
        async with await running.open(ADMIN) as client:
            page = await client.get("/", ("Cookie", cookie))
            assert (page.status, b"Needs attention" in page.body) == (200, True)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(
            f"GET / HTTP/1.1\r\nHost: {ADMIN}\r\nX-Forwarded-Proto: https\r\n"
            f"Accept: text/event-stream\r\nCookie: {cookie}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"event: changed\n")
        assert b"content-type: text/event-stream" in head.lower()
        assert service.dashboard.running == 1
        async with asyncio.timeout(10):
            await running.server.drain()
            assert (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()


async def administrator(service: AccessService) -> str:
    """Sign an administrator in; return the cookie of the dashboard."""
    made = await service.people.invite(
        "me", email=None, groups=["admins"], actor="uid 0", signs_in=True
    )
    browser = BrowserInfo(client="203.0.113.7", user_agent="Firefox")
    sign_in = (await service.sign_ins.by_link(made.secret, browser)).credential
    code = await service.sign_ins.hand_over(sign_in, host=ADMIN, challenge=CHALLENGE, target="/")
    issued = await service.sign_ins.accept_hand_over(code, host=ADMIN, verifier=VERIFIER)
    return f"__Host-0trust={issued.value}"
