"""The services of this agent as they are served now, and what changes when the file does."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zerotrust.model.handlers import Handler
from zerotrust.model.policy import ServicePolicy
from zerotrust.model.service import Service
from zerotrust.net.flush import Flusher
from zerotrust.net.http_client import BackendPool
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import backend
from zerotrust.tunnel.messages import Register

RESPONSE_TIMEOUT: Final = 120.0
"""For the first byte of an answer where the service names no `timeout`: what the original program waited."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveService:
    """A service and the pool of connections to its backend."""

    id: str
    service: Service
    policy: ServicePolicy | None
    pool: BackendPool
    response_timeout: float

    def announcement(self) -> Register:
        """What the server is told: never the backend's address."""
        return Register(
            id=self.id,
            hosts=list(self.service.host_names),
            websocket=self.service.websocket,
            name=self.service.name[:128],
            policy=self.policy.told() if self.policy is not None else None,
        )


class Services:
    """All services, by id."""

    def __init__(self, *, flusher: Flusher, tasks: Tasks) -> None:
        self._flusher = flusher
        self._tasks = tasks
        self._live: dict[str, LiveService] = {}

    def get(self, service_id: str) -> LiveService | None:
        """The service of this id."""
        return self._live.get(service_id)

    @property
    def all(self) -> list[LiveService]:
        """All services."""
        return list(self._live.values())

    def replace(
        self, services: Sequence[Service], global_middleware: Sequence[Handler] = ()
    ) -> tuple[list[LiveService], list[str]]:
        """Serve these from now on: the new and changed ones, and the ids that are gone.

        Requests that are under way end where they began.

        Raises:
            PkiError: a backend's authority can't be read; nothing has changed then.
        """
        wanted = {service.service_id: service for service in services}
        changed = [
            self._provision(service, policy)
            for service_id, service in wanted.items()
            for policy in [ServicePolicy.of(service, global_middleware)]
            if (live := self._live.get(service_id)) is None or (live.service, live.policy) != (service, policy)
        ]
        gone = [service_id for service_id in self._live if service_id not in wanted]
        for service_id in gone:
            self._live.pop(service_id).pool.close()
        for live in changed:
            if (before := self._live.get(live.id)) is not None:
                before.pool.close()
            self._live[live.id] = live
        return changed, gone

    def sweep(self, now: float) -> None:
        """Close backend connections that have been idle for too long."""
        for live in self._live.values():
            live.pool.sweep(now)

    def close(self) -> None:
        """Close all idle backend connections."""
        for live in self._live.values():
            live.pool.close()

    def _provision(self, service: Service, policy: ServicePolicy | None) -> LiveService:
        host, port, secured = service.first_upstream
        context: ssl.SSLContext | None = None
        if secured:
            context = backend(authority=service.tls.ca_file if service.tls else None)
        pool = BackendPool(host=host, port=port, tls=context, flusher=self._flusher, tasks=self._tasks)
        return LiveService(service.service_id, service, policy, pool, service.timeout or RESPONSE_TIMEOUT)
