"""Fixtures of the portal: one with a family's rules, and browsers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.authenticator import Authenticator
from tests.support.databases import migrated_sqlite
from tests.support.people import Stores, stores
from tests.support.portal_server import Browser, PortalServer, start_portal

RULES = [
    {
        "hosts": ["photos.example.com"],
        "allow": [{"group": "family"}],
        "links": True,
        "paths": [
            {"match": ["/admin/*"], "allow": [{"group": "family"}], "fresh": "15m"},
            {"match": ["/parents/*"], "allow": [{"group": "parents"}]},
        ],
    },
    {"hosts": ["wiki.example.com"], "allow": [{"group": "family"}]},
    {"hosts": ["party.example.com"], "allow": [{"pin": True}]},
    {"hosts": ["mixed.example.com"], "allow": [{"pin": True}, {"group": "family"}]},
    {"hosts": ["*.lab.example.com"], "allow": "signed_in"},
    {"hosts": ["shop.example.com"], "allow": "anyone"},
]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Stores]:
    """Servers that share one database."""
    with stores(migrated_sqlite(tmp_path / "state.db")) as made:
        yield made


@pytest.fixture
async def server(servers: Stores, tmp_path: Path, anyio_backend: object) -> PortalServer:
    """The portal of a family."""
    return await start_portal(
        servers,
        tmp_path,
        rules=RULES,
        default="signed_in",
        users=[{"name": "anna", "groups": ["family"]}, {"name": "ben"}],
    )


@pytest.fixture
def browser(server: PortalServer) -> Browser:
    return Browser(server)


@pytest.fixture
async def anna(server: PortalServer) -> Authenticator:
    """Anna's device with a passkey. Its browser is gone."""
    return await registered(server, "anna")


@pytest.fixture
async def ben(server: PortalServer) -> Authenticator:
    """Ben's, who is in no group."""
    return await registered(server, "ben")


async def registered(server: PortalServer, name: str) -> Authenticator:
    """Invite a user of the file, and register a passkey in another browser."""
    invited = await server.store.people.invite(name, email=None, groups=[], actor="uid 0")
    authenticator = Authenticator()
    browser = Browser(server, client=f"198.51.100.{sum(name.encode()) % 250}")
    reply = await browser.register(invited.secret, authenticator)
    assert reply.status == 200, reply.text
    return authenticator
