"""Tests of the examples with a sign-in: each runs from its own files through all four hops."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.example_runner import Example
from tests.support.person import Person, pairing_code
from tests.support.processes import ROOT
from tests.support.recording_backend import RecordingBackend
from tests.support.stack import Authority

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("access_examples"),
]

AUTH, PHOTOS, HOME = "auth.localhost", "photos.localhost", "home.localhost"


@dataclass
class Running:
    """An example with its backends, by host name."""

    example: Example
    backends: dict[str, RecordingBackend]

    def person(self) -> Person:
        """Return a person with a browser of their own."""
        return Person(self.example.caddy, AUTH)

    async def command(self, *words: str) -> str:
        """Run a command on the server's machine."""
        return (await self.example.command(*words)).strip()

    async def invited(self, name: str) -> Person:
        """Return a person who has just registered a passkey with the link of an invitation."""
        person = self.person()
        await person.accept_invitation(await self.command("user", "invite", name))
        return person


async def run(
    folder_name: str,
    agent: str,
    places: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
) -> AsyncIterator[Running]:
    """Run an example; `places` are host names by the address of their backend."""
    source = ROOT / "examples" / folder_name
    backends = {host: RecordingBackend(host) for host in places.values()}
    addresses = {place: f"127.0.0.1:{backends[host].port}" for place, host in places.items()}
    folder = tmp_path_factory.mktemp(folder_name) / "files"
    example = Example(
        folder,
        authority,
        agent=(source / "agent.yaml").read_text(),
        server=(source / "server.yaml").read_text(),
        name=agent,
        addresses=addresses,
    )
    for provider in ("keycloak", "google", "entra"):
        (folder / f"{provider}.secret").write_text("a secret of a client")
    running = Running(example, backends)
    try:
        await asyncio.gather(*(backend.start() for backend in backends.values()))
        await example.start()
        yield running
    finally:
        await example.stop()
        await asyncio.gather(*(backend.stop() for backend in backends.values()))


@pytest.fixture(scope="module")
async def family(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Running]:
    places = {"192.168.1.102:2283": PHOTOS, "192.168.1.101:8123": HOME}
    async for running in run("access-home", "home", places, tmp_path_factory, authority):
        yield running


@pytest.fixture(scope="module")
async def company(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Running]:
    places = {
        "10.0.0.5:3000": "grafana.localhost",
        "10.0.0.6:8080": "wiki.localhost",
        "10.0.0.7:8080": "ci.localhost",
    }
    async for running in run("access-company", "office", places, tmp_path_factory, authority):
        yield running


async def test_a_family_member_opens_the_photos_with_a_passkey(family: Running) -> None:
    anna = await family.invited("anna")
    page = await anna.open(family.example.caddy.url(PHOTOS, "/album?x=1"))
    assert (page.status, page.body) == (200, PHOTOS.encode())
    assert anna.url == family.example.caddy.url(PHOTOS, "/album?x=1")
    assert "0trust" not in (family.backends[PHOTOS].requests[-1].headers.get("Cookie") or "")
    # Another browser, with the same passkey.
    anna.cookies.clear()
    page = await anna.sign_in(await anna.open(family.example.caddy.url(HOME)))
    assert (page.status, page.body) == (200, HOME.encode())


async def test_somebody_outside_does_not_get_in(family: Running) -> None:
    stranger, before = family.person(), len(family.backends[PHOTOS].requests)
    page = await stranger.open(family.example.caddy.url(PHOTOS))
    assert stranger.url.startswith(family.example.caddy.url(AUTH, "/go?"))
    assert page.status == 200
    assert b"passkey" in page.body
    with pytest.raises(InvalidStatus) as refused:
        await stranger.websocket(PHOTOS)
    assert refused.value.response.status_code == 401
    assert len(family.backends[PHOTOS].requests) == before


async def test_a_user_outside_of_the_family_learns_it(family: Running) -> None:
    eve = await family.invited("eve")
    page = await eve.open(family.example.caddy.url(PHOTOS))
    assert page.status == 403
    assert b"eve" in page.body


async def test_disabling_a_user_closes_the_live_chart(family: Running) -> None:
    ben, carla = await family.invited("ben"), await family.invited("carla")
    for person in (ben, carla):
        assert (await person.open(family.example.caddy.url(PHOTOS))).status == 200
    async with ben.websocket(PHOTOS) as chart, carla.websocket(PHOTOS) as other:
        await chart.send("1")
        assert await chart.recv() == "1"
        await family.command("user", "disable", "ben")
        disabled_at = time.monotonic()
        with pytest.raises(ConnectionClosed) as closed:
            await chart.recv()
        assert time.monotonic() - disabled_at < 1.0
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        await other.send("2")
        assert await other.recv() == "2"
    page = await ben.open(family.example.caddy.url(PHOTOS))
    assert page.body != PHOTOS.encode()


async def test_a_device_is_paired_with_a_code(family: Running) -> None:
    """The web view of a native app, or a television."""
    anna = await family.invited("anna")
    token = await anna.token_of(anna.auth_url("/me"))
    page = await anna.send_form(anna.auth_url("/me/devices"), csrf=token)
    code = pairing_code(page)
    device = family.person()
    assert (await device.send_form(device.auth_url("/pair"), code=code)).status == 200
    page = await device.open(family.example.caddy.url(HOME))
    assert (page.status, page.body) == (200, HOME.encode())
    again = await family.person().send_form(device.auth_url("/pair"), code=code)
    assert again.status == 403


async def test_who_may_enter_may_share(family: Running) -> None:
    photos = family.example.caddy.url
    link = await family.command("share", "create", photos(PHOTOS, "/album/7"), "--for", "1h")
    page, _, secret = link.partition("#")
    visitor = family.person()
    assert (await visitor.open(page)).status == 200
    assert (await visitor.send_form(page, secret=secret)).status == 303
    assert (await visitor.open(photos(PHOTOS, "/album/7/1.jpg"))).body == PHOTOS.encode()
    assert (await visitor.open(photos(PHOTOS, "/album/8"))).body != PHOTOS.encode()
    (listed,) = json.loads(await family.command("share", "list", "--json"))["links"]
    await family.command("share", "revoke", listed["id"])
    assert (await visitor.open(photos(PHOTOS, "/album/7/1.jpg"))).body != PHOTOS.encode()


async def test_the_webhook_of_home_assistant_is_open(family: Running) -> None:
    caddy = family.example.caddy
    answer = await caddy.request(HOME, "POST", "/api/webhook/a", [("Content-Length", "0")])
    assert (answer.status, answer.body) == (200, HOME.encode())
    assert (await caddy.get(HOME, "/api/webhook/a")).status == 401


async def test_the_company_starts_without_its_providers(company: Running) -> None:
    visitor = company.person()
    page = await visitor.open(company.example.caddy.url("grafana.localhost"))
    assert page.status == 200
    for name in (b"Example Inc.", b"google", b"entra"):
        assert name in page.body
    for host in company.backends:
        assert (await company.example.caddy.get(host, "/")).status == 401
        assert not company.backends[host].requests


async def test_a_machine_of_the_company(company: Running) -> None:
    token = await company.command("machine", "create", "runner-1")
    field = ("X-0Trust-Token", token)
    answer = await company.example.caddy.get("ci.localhost", "/", field)
    assert (answer.status, answer.body) == (200, b"ci.localhost")
    assert (await company.example.caddy.get("wiki.localhost", "/", field)).status == 403
    told = company.backends["ci.localhost"].requests[-1].headers
    assert "X-0Trust-Jwt-Assertion" in told
    assert "X-0Trust-Token" not in told
