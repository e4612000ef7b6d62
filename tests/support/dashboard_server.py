"""The dashboard with a real store, and browsers that keep cookies; no sockets."""

from pathlib import Path
from typing import Any, cast

from tests.support.authenticator import Authenticator
from tests.support.identities import FakeSessionControl, authority, home, unobserved
from tests.support.people import Store, Stores
from tests.support.portal_server import Browser, PortalServer, Reply
from zerotrust.access.gate_table import GateTable
from zerotrust.db import servers
from zerotrust.model import admin
from zerotrust.model.doctor import DoctorFacts, Finding
from zerotrust.model.limits import Limits
from zerotrust.model.server import ServerConfig
from zerotrust.model.service_access import ServiceAccess
from zerotrust.net.tasks import Tasks
from zerotrust.server.access.identity_keys import IdentityKeys
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.dashboard.dashboard import Dashboard
from zerotrust.server.dashboard.event_streams import EventStreams
from zerotrust.server.identity.agent_directory import AgentDirectory
from zerotrust.server.identity.audit import Audit
from zerotrust.server.identity.authorization import Authorization
from zerotrust.server.identity.join_tokens import JoinTokens
from zerotrust.server.identity.membership import Membership
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.capture_admin import CaptureAdmin
from zerotrust.server.ops.connection_admin import ConnectionAdmin
from zerotrust.server.ops.server_examination import ServerExamination
from zerotrust.server.ops.service_admin import ServiceAdmin
from zerotrust.server.portal.portal import Portal
from zerotrust.server.proxy.captures import Captures
from zerotrust.server.proxy.load_shedding import LoadShedding

HOSTILE = '"><script>alert(1)</script>'
ADMIN = "https://admin.example.com"
SETTINGS: dict[str, Any] = {
    "admin_host": "admin.example.com",
    "admins": [{"group": "admins"}],
    "viewers": [{"user": "vera"}],
    "users": [
        {"name": "anna", "groups": ["admins", "family"]},
        {"name": "ben", "groups": ["family"]},
        {"name": "vera"},
    ],
    "rules": [
        {
            "hosts": ["photos.example.com"],
            "allow": [{"group": "family"}, {"machine": "frame"}],
            "links": True,
        },
        {"hosts": ["shop.example.com"], "allow": "anyone"},
        {"hosts": ["party.example.com"], "allow": [{"pin": True}]},
    ],
}


class StoreParts:
    """The parts of a server that decide about access, from a store (`ops.access_parts`)."""

    def __init__(self, server: "DashboardServer") -> None:
        self._server = server
        store = server.store
        self.state = store.state
        self.people = store.people
        self.sign_ins = store.sign_ins
        self.tokens = store.tokens
        self.links = store.links

    @property
    def gates(self) -> GateTable:
        return self._server.gates

    @property
    def https_port(self) -> int:
        return self._server.site.https_port

    def served_by(self, host: str) -> tuple[str, ServiceAccess | None]:
        return "", None


class DashboardServer(PortalServer):
    """A portal and a dashboard, and the part of the ingress that stands before them.

    Attributes:
        live: the sessions of agents.
        registry: the services of agents.
        membership: the servers of the database; none before it has looked.
        streams: the event streams of all dashboards.
        findings: findings of the next examination.
    """

    def __init__(self, store: Store, keys: IdentityKeys, folder: Path) -> None:
        super().__init__(store, keys)
        made, settings = authority(folder / "certs")
        self.live = FakeSessionControl()
        self.findings: list[Finding] = []
        self.registry = Registry()
        self.load_shedding = LoadShedding(Limits())
        self.authorization = Authorization()
        directory = AgentDirectory(
            store.database, authorization=self.authorization, sessions=self.live, authority=made
        )
        self.parts = StoreParts(self)
        audit = Audit(store.database)
        self.membership = Membership(
            store.database,
            "1" * 32,
            address="server-1.example.com:8443",
            renews=True,
            changed=lambda _: None,
        )
        self.commands = AdminCommands(
            directory,
            cast("SessionControl", self.live),
            audit,
            JoinTokens(settings),
            ServiceAdmin(self.registry, self.load_shedding, lambda: self.parts),
            connections=ConnectionAdmin(lambda: self.registry.sessions, audit),
            captures=CaptureAdmin(Captures(audit, Tasks()), self.registry),
            traffic=unobserved(Tasks()),
            membership=self.membership,
        )
        self.streams = EventStreams(interval=0.01)
        self.examination = ServerExamination(
            Tasks(),
            config=ServerConfig,
            facts=lambda: self.commands.doctor_facts(self.parts),
            examine=self._examine,
        )
        self.portal = self.build_with_dashboard()

    async def add_server(self, server_id: str, address: str) -> None:
        """Let another server share the database."""
        await self.store.database.run(
            lambda session: servers.renew(session, server_id, address=address, version="0.9")
        )
        await self.membership.look()

    async def fill(self) -> None:
        """Add an agent with a session and services, a token of each kind, a link and a PIN."""
        self.live.sessions.append(home(peer=HOSTILE, software=HOSTILE + "x" * 300))
        await self.commands.create_token(
            admin.CreateTokenRequest(agent="home", hosts=["photos.example.com"]), "uid 0"
        )
        for host in ("photos.example.com", "*.lab.example.com"):
            await self.commands.add_grant(admin.GrantRequest(agent="home", host=host), "uid 0")
        self.registry.expect("photos.example.com", "home", HOSTILE)
        await self.add_server("2" * 32, HOSTILE)
        await self.store.people.invite("ben", email=None, groups=["family"], actor="uid 0")
        await self.store.tokens.create_machine("frame", hosts=[], lifetime=None, actor="uid 0")
        await self.store.tokens.create_app(
            HOSTILE, user="ben", hosts=[], lifetime=3600.0, actor="user ben"
        )
        await self.store.links.create(
            "https://photos.example.com/album/7",
            lifetime=3600.0,
            uses=3,
            pin="482913",
            methods=["GET", "HEAD"],
            created_by="uid 0",
            actor="uid 0",
        )
        await self.store.links.set_pin("party.example.com", "482913", actor="uid 0")

    async def _examine(self, config: ServerConfig, *, facts: DoctorFacts) -> list[Finding]:
        return self.findings

    def build_with_dashboard(self) -> Portal:
        """Return a portal with a dashboard, for the configuration in force."""
        self.dashboard = Dashboard(
            self.site,
            self.parts,
            self.commands,
            streams=self.streams,
            examination=self.examination,
        )
        return Portal(self.site, dashboard=self.dashboard.app)


async def start_dashboard(servers: Stores, folder: Path, **settings: Any) -> DashboardServer:
    """Start a dashboard with a store of its own."""
    store = await servers.start(**{**SETTINGS, **settings})
    keys = IdentityKeys(store.database, folder)
    await keys.load()
    return DashboardServer(store, keys, folder)


async def signed_in(server: DashboardServer, name: str) -> Browser:
    """Return a browser in which a user has registered a passkey a moment ago."""
    invited = await server.store.people.invite(name, email=None, groups=[], actor="uid 0")
    browser = Browser(server, client=f"198.51.100.{sum(name.encode()) % 250}")
    reply = await browser.register(invited.secret, Authenticator())
    assert reply.status == 200, reply.text
    return browser


async def send(browser: Browser, page: str, action: str, **fields: str) -> Reply:
    """Send a form of a page, with the page's token, as a button of it does."""
    shown = await browser.get(f"{ADMIN}{page}")
    csrf = next(form["fields"]["csrf"] for form in shown.page.forms if "csrf" in form["fields"])
    return await browser.post(f"{ADMIN}{action}", {"csrf": csrf, **fields})
