"""The sessions that there are, as those who govern them see them: judged anew, cut off, listed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, cast

from zerotrust.server.agents.registry import Member, Registry, ServiceRegistration
from zerotrust.server.identity.authorization import Authorization
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import MAX_REASON_BYTES, printable
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.messages import Registered

MAX_REASONS_BYTES: Final = 32 * 1024
"""Of one REGISTERED, which has a reason for each host name and has to fit into a frame."""

_log = logs.logger("agents")


class OpenRequest(Protocol):
    """A request that an agent serves now: the sink of each stream of its session (`server.proxy.relay`)."""

    @property
    def host(self) -> str:
        """The host name that was asked for."""

    def cut(self, reason: str) -> None:
        """End the request at once: the agent may no longer serve it."""

    def depart(self) -> None:
        """End an upgraded connection where its protocol allows it, and tell the client to come back."""


@dataclass(frozen=True, kw_only=True)
class RevocationResult:
    """What ended at once."""

    sessions: int = 0
    streams: int = 0


@dataclass(frozen=True, kw_only=True)
class Connected:
    """A session: since when and until when in seconds since the epoch; `attached` where its link is there."""

    agent: str
    generation: int
    since: float
    peer: str
    streams: int
    services: int
    software: str
    serial: str
    certificate_ends: int
    attached: bool = True


class SessionControl:
    """All sessions of agents with this server."""

    def __init__(self, registry: Registry, admission: Authorization) -> None:
        self._registry = registry
        self._admission = admission

    def rejudge(self) -> None:
        """Grants have changed: give host names, or take them, as they say now. Requests of those that are taken end."""
        for member in self._registry.sessions:
            if not member.retired:
                for claim in list(member.services.values()):
                    self._judge(member, claim)
            self._end_streams(member)

    def cut(self, agent: str, serial: str | None, reason: str) -> RevocationResult:
        """End the sessions of an agent, or those with one certificate, and all their requests, at once."""
        sessions = streams = 0
        for member in self._registry.sessions:
            if member.agent == agent and (serial in (None, member.serial) or serial in member.former):
                sessions += 1
                streams += len(member.link.session.streams)
                member.link.close_session(Code.NOT_ALLOWED, reason)
        return RevocationResult(sessions=sessions, streams=streams)

    def recheck(self) -> None:
        """End the sessions of all who are refused now, whoever decided that."""
        for member in self._registry.sessions:
            for serial in (member.serial, *member.former):
                if reason := self._admission.refusal(member.agent, serial):
                    _log.warning("session ended", agent=member.agent, generation=member.generation, reason=reason)
                    member.link.close_session(Code.NOT_ALLOWED, reason)
                    break

    def expire(self, now: float) -> None:
        """End the sessions whose certificate is no longer good, `now` being seconds since the epoch.

        One that goes away because its agent has renewed the certificate may end what it has begun.
        """
        renewed = {member.agent for member in self._registry.sessions if member.ends > now}
        for member in self._registry.sessions:
            if member.ends <= now and not (member.retired and member.agent in renewed):
                _log.warning("certificate expired", agent=member.agent, generation=member.generation)
                member.link.close_session(Code.NOT_ALLOWED, "the certificate has expired and was not renewed")

    def connected(self) -> list[Connected]:
        """All sessions, by agent and age."""
        return [
            Connected(
                agent=member.agent,
                generation=member.generation,
                since=member.since,
                peer=member.peer,
                streams=len(member.link.session.streams),
                services=len(member.services),
                software=member.software,
                serial=member.serial,
                certificate_ends=int(member.ends),
                attached=member.link.session.attached,
            )
            for member in sorted(self._registry.sessions, key=lambda member: (member.agent, member.generation))
        ]

    def _judge(self, member: Member, claim: ServiceRegistration) -> None:
        granted, refused = self._admission.judge(member.agent, claim.wanted)
        if tuple(granted) == claim.hosts:
            return
        judged = claim.with_hosts(tuple(granted))
        waiting = self._registry.register(member, judged)
        answer(member, judged, waiting, refused)

    def _end_streams(self, member: Member) -> None:
        for request in _open_requests(member):
            if self._admission.judge(member.agent, (request.host,))[1]:
                request.cut("the host name is no longer granted to the agent")


def depart(member: Member) -> None:
    """End the WebSockets of a session, and what else was upgraded, so that their clients come back at once."""
    for request in _open_requests(member):
        request.depart()


def _open_requests(member: Member) -> Iterator[OpenRequest]:
    """Yield the owners of all streams: agents open none, so each stream is a request that the server forwarded."""
    for stream in list(member.link.session.streams.values()):
        if stream.sink is not None:
            yield cast("OpenRequest", stream.sink)


def answer(member: Member, claim: ServiceRegistration, waiting: dict[str, str], refused: dict[str, str]) -> None:
    """Tell the agent, and the log, which host names of a service it serves now."""
    accepted = [host for host in claim.hosts if host not in waiting]
    said = shortened({**refused, **waiting})
    member.link.session.send(Registered(id=claim.service, accepted=accepted, refused=said))
    _log.info("service registered", agent=member.agent, service=claim.service, hosts=accepted, waiting=waiting or None)
    for host, reason in refused.items():
        _log.warning("host name refused", agent=member.agent, service=claim.service, host=host, reason=reason)


def shortened(reasons: dict[str, str]) -> dict[str, str]:
    """The reasons, so short that all fit into one message."""
    most = min(MAX_REASON_BYTES, MAX_REASONS_BYTES // max(len(reasons), 1))
    return {host: printable(reason)[:most] for host, reason in reasons.items()}
