"""Operations on all sessions of agents: check grants again, revoke, expire, list."""

from collections.abc import Iterable
from typing import Final

from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_registrar import ServiceRegistrar
from zerotrust.server.agents.session import AgentSession
from zerotrust.server.identity.authorization import Authorization
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import Code

CONTESTED: Final = 600.0
"""Seconds for which two processes with one identity are remembered. Each tries once a minute."""

_log = logs.logger("agents")


class SessionControl:
    """Operations on all sessions of this server (identity.agent_directory.LiveSessions)."""

    def __init__(
        self, registry: Registry, registrar: ServiceRegistrar, authorization: Authorization
    ) -> None:
        self._registry = registry
        self._registrar = registrar
        self._authorization = authorization

    def connected(self) -> list[AgentSession]:
        """Return all sessions, by agent and age."""
        return sorted(
            self._registry.sessions, key=lambda session: (session.agent, session.generation)
        )

    def refusals(self, agent: str, hosts: Iterable[str]) -> dict[str, str]:
        """Return the host names that an agent may not serve, each with the reason."""
        return self._authorization.judge(agent, hosts)[1]

    def contested(self) -> list[str]:
        """Return the agents whose identity two processes have used in the last ten minutes."""
        since = self._registry.clock() - CONTESTED
        return sorted(
            agent for agent, seen_at in self._registry.contested.items() if seen_at >= since
        )

    def is_connected(self, agent: str) -> bool:
        """Return True where the agent has a session."""
        return any(session.agent == agent for session in self._registry.sessions)

    def reauthorize(self) -> None:
        """Check all grants again; end the requests of host names that are no longer granted.

        A disconnected agent gives up the names that it may no longer serve: a wildcard may get
        their requests now.
        """
        for session in self._registry.sessions:
            if not session.retired:
                self._registrar.reauthorize(session)
            for request in session.open_requests():
                if not self._authorization.may_serve(session.agent, request.registered_host):
                    request.cut("the host name is no longer granted to the agent")
        self._registry.forget_lost(self._authorization.may_serve)

    def revoke(self, agent: str, serial: str | None, reason: str) -> tuple[int, int]:
        """End the sessions of an agent, or those with one certificate, at once.

        Returns:
            The numbers of sessions and of streams.
        """
        sessions = streams = 0
        for session in self._registry.sessions:
            if session.agent == agent and (
                serial in (None, session.serial) or serial in session.former_serials
            ):
                sessions += 1
                streams += session.stream_count
                session.link.close_session(Code.NOT_ALLOWED, reason)
        return sessions, streams

    def close_revoked(self) -> None:
        """End the sessions of all agents that are revoked by now."""
        for session in self._registry.sessions:
            for serial in (session.serial, *session.former_serials):
                if reason := self._authorization.refusal(session.agent, serial):
                    _log.warning(
                        "session ended",
                        agent=session.agent,
                        generation=session.generation,
                        reason=reason,
                    )
                    session.link.close_session(Code.NOT_ALLOWED, reason)
                    break

    def expire(self, now: float) -> None:
        """End the sessions whose certificate has expired.

        A retired session whose agent has renewed the certificate may finish its requests.

        Args:
            now: seconds since the epoch.
        """
        renewed = {
            session.agent for session in self._registry.sessions if session.certificate_ends > now
        }
        for session in self._registry.sessions:
            if session.certificate_ends <= now and not (
                session.retired and session.agent in renewed
            ):
                _log.warning(
                    "certificate expired", agent=session.agent, generation=session.generation
                )
                session.link.close_session(
                    Code.NOT_ALLOWED, "the certificate has expired and was not renewed"
                )
