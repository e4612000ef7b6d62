"""All parts of access: people and their sign-ins, gates, pages, and what ends requests.

The server has them only if its file has a section `access`.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from starlette.routing import Route

from zerotrust.access.conditions import CountryOf
from zerotrust.access.gate import Gate
from zerotrust.access.gate_table import GateTable
from zerotrust.db.database import Database
from zerotrust.errors import StateError
from zerotrust.model.access import Access
from zerotrust.model.server import ServerConfig
from zerotrust.model.service_access import ServiceAccess
from zerotrust.net.asgi import MAX_REQUESTS, AsgiApp, AsgiBridge, Message, Receive, Send
from zerotrust.net.tasks import Tasks
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.access_tokens import AccessTokens
from zerotrust.server.access.backend_identity import BackendIdentity
from zerotrust.server.access.cutting import Cutting
from zerotrust.server.access.gatekeeper import Gatekeeper
from zerotrust.server.access.identity_keys import IdentityKeys
from zerotrust.server.access.people import People
from zerotrust.server.access.refresh_seal import RefreshSeal
from zerotrust.server.access.share_links import ShareLinks
from zerotrust.server.access.sign_ins import SignIns
from zerotrust.server.agents.registry import Registry
from zerotrust.server.dashboard.dashboard import Dashboard
from zerotrust.server.dashboard.event_streams import MAX_STREAMS, EventStreams
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.server_examination import ServerExamination
from zerotrust.server.portal import jwks
from zerotrust.server.portal.attempt_limits import AttemptLimits
from zerotrust.server.portal.oidc import Providers
from zerotrust.server.portal.page_templates import PageTemplates
from zerotrust.server.portal.portal import Portal
from zerotrust.server.portal.provider_recheck import Rechecks
from zerotrust.server.portal.provider_routes import provider_routes
from zerotrust.server.portal.site import Site
from zerotrust.telemetry import logs

_log = logs.logger("access")

MAX_DASHBOARD_REQUESTS: Final = MAX_STREAMS + MAX_REQUESTS
"""Requests of the dashboard at the same time: each stream is one that lasts."""

_HTTPS_PORT: Final = 443


class AccessService:
    """Builds and owns the parts of access.

    `start` makes them ready, `apply` uses another configuration, `close` ends them.

    Args:
        access: the section `access` of the configuration.
        country_of: looks up countries; None without a database of them.
        commands: commands about agents, for the dashboard.

    Attributes:
        state: database and index of all that is in force.
        people, sign_ins, tokens, links: the use cases.
        keys: sign what backends are told.
        gatekeeper: decides about requests.
        cutting: ends requests that may not go on.
        providers: identity providers at which users sign in.
        portal: serves the pages.
        dashboard: serves the same application to those whom the gate of `admin_host` lets in.

    Raises:
        StateError: a key in the folder can't be used.
    """

    def __init__(
        self,
        config: ServerConfig,
        access: Access,
        country_of: CountryOf | None = None,
        *,
        database: Database,
        tasks: Tasks,
        registry: Registry,
        commands: AdminCommands,
    ) -> None:
        folder, https_port = Path(config.state.dir), config.caddy.https_port
        self._config = config
        self._registry = registry
        self._commands = commands
        self._streams = EventStreams()
        self._examination = ServerExamination(
            tasks, config=lambda: self._config, facts=lambda: commands.doctor_facts(self)
        )
        self._tasks = tasks
        self._running: list[asyncio.Task[None]] = []
        self.state = AccessState(database, access)
        self.people = People(self.state)
        self.sign_ins = SignIns(self.state, seal=RefreshSeal.load(folder))
        self.tokens = AccessTokens(self.state)
        self.links = ShareLinks(self.state)
        self.keys = IdentityKeys(database, folder)
        self._limits = AttemptLimits()
        self._templates = PageTemplates()
        self.gatekeeper = Gatekeeper(
            self.state,
            _gates(access, country_of),
            portal=None,
            auth_origin=_origin(access.auth_host, https_port),
            shared=database.shared,
            origins=self._origins,
        )
        self.gatekeeper.identity = BackendIdentity(self.keys, access.auth_host)
        self.providers = Providers(access, auth_origin=_origin(access.auth_host, https_port))
        self.portal = AsgiBridge(self._pages(), tasks)
        self.gatekeeper.portal = self.portal
        self.dashboard = AsgiBridge(self._to_portal, tasks, most=MAX_DASHBOARD_REQUESTS)
        self.gatekeeper.dashboard = self.dashboard
        self.cutting = Cutting(self.gatekeeper, lambda: registry.sessions)
        self.state.subscribe(self.cutting.changed)

    @property
    def gates(self) -> GateTable:
        """Return the gates of all host names."""
        return self.gatekeeper.gates

    @property
    def https_port(self) -> int:
        """Return the port on which browsers reach all host names."""
        return self._config.caddy.https_port

    def served_by(self, host: str) -> tuple[str, ServiceAccess | None]:
        """Return the agent of a host name, empty without one, and its service's `access`."""
        agent, policy = self._registry.policy_of(host)
        return agent, None if policy is None else policy.access

    async def start(self) -> None:
        """Read all that is in force, and follow its changes.

        Raises:
            StateError: the database can't be used.
            PkiError: a key can't be used.
        """
        await self.state.load()
        await self.keys.load()
        self._commands.traffic.history.turn(on=self.state.access.admin_host is not None)
        for work, name in (
            (self.state.follow, "follow sign-ins"),
            (self.keys.keep_fresh, "maintain identity keys"),
            (self.cutting.run, "cut requests"),
            (Rechecks(self.sign_ins, self.providers).run, "recheck users at providers"),
        ):
            self._running.append(self._tasks.supervise(work, name))

    async def apply(
        self, config: ServerConfig, access: Access, country_of: CountryOf | None
    ) -> None:
        """Use another configuration: requests that run are judged by its section `access`, too."""
        self._config = config
        self.gatekeeper.gates = _gates(access, country_of)
        auth_origin = _origin(access.auth_host, self.https_port)
        self.gatekeeper.auth_origin = auth_origin
        self.providers.reconfigure(access, auth_origin=auth_origin)
        if self.gatekeeper.identity is not None:
            self.gatekeeper.identity.reconfigure(access.auth_host)
        try:
            await self.state.reconfigure(access)
        except StateError as error:
            _log.error(
                "users removed from the file are out here, not in the database", reason=str(error)
            )
        self._commands.traffic.history.turn(on=access.admin_host is not None)
        self.portal.app = self._pages()
        self.cutting.changed()

    def drain(self) -> None:
        """End the event streams of open dashboards."""
        self._streams.end()

    async def close(self) -> None:
        """End all work."""
        self.drain()
        self._commands.traffic.history.turn(on=False)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()
        await self.state.close()

    # ---- inside

    def _pages(self) -> AsgiApp:
        site = Site(
            state=self.state,
            find_gate=self._find_gate,
            is_published=self._is_published,
            people=self.people,
            sign_ins=self.sign_ins,
            tokens=self.tokens,
            links=self.links,
            keys=self.keys,
            https_port=self.https_port,
            logout_url=self.providers.logout_url,
            limits=self._limits,
            templates=self._templates,
        )
        dashboard = None
        if self.state.access.admin_host is not None:
            dashboard = Dashboard(
                site,
                self,
                self._commands,
                streams=self._streams,
                examination=self._examination,
            ).app
        keys = Route(jwks.PATH, jwks.jwks_endpoint(self.keys), methods=["GET"])
        providers = provider_routes(site, self.providers)
        return Portal(
            site, auth_routes=[keys, *providers], service_routes=[keys], dashboard=dashboard
        ).app

    async def _to_portal(self, scope: Message, receive: Receive, send: Send) -> None:
        await self.portal.app(scope, receive, send)

    def _find_gate(self, host: str) -> Gate | None:
        return self.gatekeeper.gates.find(host)

    def _is_published(self, host: str) -> bool:
        """Return True if an agent has a service of this host name, connected or not."""
        name = self._registry.resolve(host)
        return name in self._registry.by_host or any(
            name == lost[0] for lost in self._registry.lost
        )

    def _origins(self, host: str) -> Sequence[str]:
        _, narrowing = self.served_by(host)
        return () if narrowing is None else narrowing.origins


def _gates(access: Access, country_of: CountryOf | None) -> GateTable:
    return GateTable(access) if country_of is None else GateTable(access, country_of=country_of)


def _origin(host: str, https_port: int) -> str:
    return f"https://{host}" if https_port == _HTTPS_PORT else f"https://{host}:{https_port}"
