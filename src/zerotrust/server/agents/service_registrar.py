"""Registrar for services: checks their policies and host names, and answers the agents."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from zerotrust.access.conditions import CountryOf
from zerotrust.errors import ConfigError
from zerotrust.model.password_hash import REFERENCE_SPEED, HashSpeed
from zerotrust.server.agents.cpu_budget import CpuBudget
from zerotrust.server.agents.hash_speed import check_hashes
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.scheme import OfferedSchemes
from zerotrust.server.agents.service_policy import CompiledPolicy, compile_service_policy
from zerotrust.server.agents.session import AgentSession, ServiceRegistration
from zerotrust.server.identity.authorization import Authorization
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import MAX_REASON_BYTES, printable
from zerotrust.tunnel.messages import Register, Registered

MAX_REASONS_BYTES: Final = 32 * 1024
"""Total size of the reasons in one REGISTERED message, which has one for each refused host name and
must fit into a frame."""

MAX_UNENFORCED_BYTES: Final = 256 * 1024
"""Total size of the registrations that a session has in `unenforced`; others are forgotten."""

HostsChecked = Callable[[str, Sequence[str], Sequence[str]], None]
"""Called with an agent, the host names that were granted to it, and those that were refused."""

_log = logs.logger("agents")


class ServiceRegistrar:
    """Registers services for all sessions.

    Args:
        secret: random bytes of this process; policies derive their secrets from it.
        hash_speed: speed of this machine; services whose password hashes would take too long are
            refused.
        hosts_checked: called for each registration.
        signs_in: people can sign in at this server.
        country_of: looks up countries; None without a database of them.
        workers: number of processes of this server, which share the limits of policies.

    Attributes:
        cpu_budget: CPU time that each agent's registrations may take.
    """

    def __init__(  # noqa: PLR0913 - keyword arguments
        self,
        registry: Registry,
        authorization: Authorization,
        *,
        secret: bytes,
        hash_speed: HashSpeed = REFERENCE_SPEED,
        hosts_checked: HostsChecked | None = None,
        signs_in: bool = False,
        country_of: CountryOf | None = None,
        workers: int = 1,
    ) -> None:
        self.cpu_budget = CpuBudget()
        self._registry = registry
        self._authorization = authorization
        self._secret = secret
        self._hash_speed = hash_speed
        self._hosts_checked = hosts_checked
        self._signs_in = signs_in
        self._country_of = country_of
        self._workers = workers

    def reconfigure(self, *, signs_in: bool, country_of: CountryOf | None) -> None:
        """Apply new settings to registrations from now on, and to those that were refused."""
        before = (self._signs_in, self._country_of is not None)
        self._signs_in = signs_in
        self._country_of = country_of
        if (signs_in, country_of is not None) == before:
            return
        for session in self._registry.sessions:
            for message in list(session.unenforced.values()):
                session.queue.run(partial(self._retry, session, message))

    def register(self, session: AgentSession, message: Register) -> None:
        """Register a service with its granted host names, or refuse it; answer the agent."""
        session.unenforced.pop(message.id, None)
        session.health.pop(message.id, None)
        schemes = OfferedSchemes.of(message)
        if session.retired:
            self._refuse(session, message, "this session is going away")
            return
        if not schemes.https and not session.offers_http:
            reason = "it listens on http alone, which this server does not offer: caddy.http_port"
            self._refuse(session, message, reason)
            return
        policy_bytes, digest = 0, b""
        if message.policy is not None:
            policy_bytes = len(message.encode())
            digest = hashlib.sha256(json.dumps(message.policy, sort_keys=True).encode()).digest()
        # All sessions of an agent share a policy, so a client cannot use its limits up once in
        # each.
        shared = self._registry.same(session, message.id, digest) if digest else None
        if shared is not None:
            policy_bytes = 0
        if exceeded := self._registry.over_limit(
            session, message.id, len(message.hosts), policy_bytes
        ):
            self._refuse(session, message, exceeded)
            return
        try:
            policy = self._compile(session, message) if shared is None else shared.policy
        except ConfigError as error:
            self._refuse(session, message, f"its policy cannot be enforced: {error}")
            self._remember(session, message)
            return
        granted, refused = self._authorization.judge(session.agent, message.hosts)
        if self._hosts_checked is not None:
            self._hosts_checked(session.agent, granted, list(refused))
        registration = ServiceRegistration(
            session=session,
            service=message.id,
            wire_id=message.id.encode(),
            hosts=tuple(granted),
            websocket=message.websocket,
            policy=policy,
            schemes=schemes,
            requested=tuple(message.hosts),
            policy_bytes=policy_bytes,
            policy_digest=digest,
            weight=message.weight,
            sticky=message.sticky,
        )
        self._add(registration, refused)

    def unregister(self, session: AgentSession, service: str) -> None:
        """Remove a service."""
        session.unenforced.pop(service, None)
        session.health.pop(service, None)
        if self._registry.unregister(session, service):
            _log.info("service removed", agent=session.agent, service=service)

    def reauthorize(self, session: AgentSession) -> None:
        """Check the host names of all services of a session again, after grants have changed."""
        for registration in list(session.services.values()):
            granted, refused = self._authorization.judge(session.agent, registration.requested)
            if tuple(granted) != registration.hosts:
                self._add(registration.with_hosts(tuple(granted)), refused)

    def _remember(self, session: AgentSession, message: Register) -> None:
        kept = sum(len(other.encode()) for other in session.unenforced.values())
        if kept + len(message.encode()) <= MAX_UNENFORCED_BYTES:
            session.unenforced[message.id] = message

    def _retry(self, session: AgentSession, message: Register) -> None:
        # The agent may have removed or replaced the service while this waited for its turn.
        if session.unenforced.get(message.id) is message:
            self.register(session, message)

    def _compile(self, session: AgentSession, message: Register) -> CompiledPolicy | None:
        """Raises ConfigError."""
        before = self._registry.former_policy(session, message.id)
        policy = compile_service_policy(
            message.policy,
            secret=self._secret,
            before=before,
            signs_in=self._signs_in,
            country_of=self._country_of,
            workers=self._workers,
        )
        check_hashes(policy, self._hash_speed)
        return policy

    def _add(self, registration: ServiceRegistration, refused: dict[str, str]) -> None:
        """Register a service; tell the agent and the log which of its host names it serves now."""
        session, service = registration.session, registration.service
        waiting = self._registry.register(registration)
        accepted = [host for host in registration.hosts if host not in waiting]
        reasons = shortened({**refused, **waiting})
        session.link.session.send(Registered(id=service, accepted=accepted, refused=reasons))
        _log.info(
            "service registered",
            agent=session.agent,
            service=service,
            hosts=accepted,
            waiting=waiting or None,
        )
        for host, reason in refused.items():
            _log.warning(
                "host name refused", agent=session.agent, service=service, host=host, reason=reason
            )

    def _refuse(self, session: AgentSession, message: Register, reason: str) -> None:
        # An earlier registration goes too: its owner wants the service protected in a way that we
        # cannot enforce.
        self._registry.unregister(session, message.id)
        reasons = shortened(dict.fromkeys(message.hosts, reason))
        session.link.session.send(Registered(id=message.id, refused=reasons))
        _log.warning(
            "service refused", agent=session.agent, service=message.id, reason=printable(reason)
        )


def shortened(reasons: dict[str, str]) -> dict[str, str]:
    """Return the reasons, cut so that all fit into one message."""
    most = min(MAX_REASON_BYTES, MAX_REASONS_BYTES // max(len(reasons), 1))
    return {host: printable(reason)[:most] for host, reason in reasons.items()}
