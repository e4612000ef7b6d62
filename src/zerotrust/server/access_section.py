"""Section `access` of the configuration: with it the server has the parts of access, else none."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, Protocol

from zerotrust.access.conditions import CountryOf
from zerotrust.db.database import Database
from zerotrust.model.access import Access
from zerotrust.model.server import ServerConfig
from zerotrust.net.tasks import Tasks
from zerotrust.server.access.country_lookup import CountryLookup
from zerotrust.server.access.gatekeeper import Gatekeeper
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_registrar import ServiceRegistrar
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.authorization import Authorization
from zerotrust.server.ops.admin_commands import AdminCommands

if TYPE_CHECKING:
    from zerotrust.server.access_service import AccessService


class _Ingress(Protocol):
    """Handler of requests (`server.proxy.ingress`)."""

    def use_gates(self, gatekeeper: Gatekeeper | None) -> None:
        """Let a gatekeeper decide about all requests from now on; None lets all pass."""


class _Prepared(NamedTuple):
    """Parts for another configuration that may be used.

    Attributes:
        service: None without the section.
        country_of: None without a database of countries.
    """

    service: "AccessService | None"
    country_of: CountryOf | None


Build = Callable[[ServerConfig, Access, CountryOf | None], "AccessService"]
"""Builds the parts of access."""


def build_access(
    config: ServerConfig,
    access: Access,
    country_of: CountryOf | None,
    *,
    database: Database,
    tasks: Tasks,
    registry: Registry,
    commands: AdminCommands,
) -> "AccessService":
    """Return the parts of access.

    Raises:
        StateError: a key in the folder can't be used.
    """
    return _access_service()(
        config,
        access,
        country_of,
        database=database,
        tasks=tasks,
        registry=registry,
        commands=commands,
    )


def _access_service() -> "type[AccessService]":
    """Import the parts of access: pages, passkeys, identity providers.

    This takes a fifth of a second and 15 MiB, which a server without the section saves.
    """
    from zerotrust.server.access_service import AccessService

    return AccessService


class AccessSection:
    """Turns access on and off, and applies changes of its section.

    Args:
        build: builds the parts.

    Attributes:
        service: the parts; None without the section.

    Raises:
        SetupError: the database of countries or a key can't be used.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        build: Build,
        ingress: _Ingress,
        registrar: ServiceRegistrar,
        authorization: Authorization,
        sessions: SessionControl,
    ) -> None:
        self.service: AccessService | None = None
        self._build = build
        self._ingress = ingress
        self._registrar = registrar
        self._authorization = authorization
        self._sessions = sessions
        country_of = _country_lookup(config.access)
        if config.access is not None:
            self.service = build(config, config.access, country_of)
        authorization.reserved = _reserved_hosts(config.access)
        registrar.reconfigure(signs_in=config.access is not None, country_of=country_of)

    async def start(self) -> None:
        """Read all that is in force, before the first request.

        Raises:
            SetupError: the database or a key can't be used.
        """
        if self.service is not None:
            await self.service.start()
            self._ingress.use_gates(self.service.gatekeeper)

    async def prepare(self, config: ServerConfig, undo: AsyncExitStack) -> _Prepared:
        """Return the parts for another configuration, ready to be used.

        Raises:
            SetupError: they can't be used; nothing has changed.
        """
        country_of = _country_lookup(config.access)
        if config.access is None:
            return _Prepared(None, None)
        if self.service is not None:
            return _Prepared(self.service, country_of)
        # In a thread: the import would hold up all connections.
        await asyncio.to_thread(_access_service)
        service = self._build(config, config.access, country_of)
        await service.start()
        undo.push_async_callback(service.close)
        return _Prepared(service, country_of)

    async def apply(self, config: ServerConfig, prepared: _Prepared) -> None:
        """Use the parts that `prepare` has returned for this configuration."""
        previous, self.service = self.service, prepared.service
        self._registrar.reconfigure(
            signs_in=config.access is not None, country_of=prepared.country_of
        )
        if self.service is not previous:
            self._ingress.use_gates(None if self.service is None else self.service.gatekeeper)
        if previous is not None and self.service is None:
            await previous.close()
        if self.service is not None and config.access is not None:
            await self.service.apply(config, config.access, prepared.country_of)
        reserved = _reserved_hosts(config.access)
        if reserved != self._authorization.reserved:
            self._authorization.reserved = reserved
            self._sessions.reauthorize()

    def drain(self) -> None:
        """End the event streams of open dashboards, which would delay the end of the server."""
        if self.service is not None:
            self.service.drain()

    async def close(self) -> None:
        """End all work."""
        if self.service is not None:
            await self.service.close()


def _country_lookup(access: Access | None) -> CountryOf | None:
    """Raises SetupError."""
    if access is None or access.geo is None:
        return None
    return CountryLookup(access.geo.database)


def _reserved_hosts(access: Access | None) -> frozenset[str]:
    """Return the host names that the server serves itself, and no agent."""
    if access is None:
        return frozenset()
    return frozenset(host for host in (access.auth_host, access.admin_host) if host is not None)
