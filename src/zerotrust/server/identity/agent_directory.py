"""Directory of agents, join tokens, grants and revocations: commits and applies decisions.

Each decision is one transaction, which also reads the state that it leaves. The copies in memory
are replaced whole by that state, in the order of the transactions; a decision that was not
committed changes nothing. This code runs in the loop's thread, the transactions in the database's
own. Callers must not be cancelled while they wait: a decision that was committed has to be applied.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from cryptography import x509
from sqlalchemy.orm import Session

from zerotrust.db import grants as grant_rows
from zerotrust.db import revocations
from zerotrust.db.change_watch import ChangeWatch
from zerotrust.db.database import Database
from zerotrust.db.tables import GrantRow, JoinTokenRow, RevocationRow
from zerotrust.enrollment import expired_renewal, grants, join, queries, revocation, tokens
from zerotrust.enrollment.grant_table import Grant as Pair
from zerotrust.enrollment.grant_table import GrantTable, parse_pattern
from zerotrust.enrollment.grants import Granted
from zerotrust.enrollment.join import IssuedCertificate
from zerotrust.enrollment.overlaps import MAX_WARNINGS, overlap_warnings
from zerotrust.enrollment.queries import AgentHistory, AgentSummary
from zerotrust.enrollment.rate_limits import Attempts, RefusalLog
from zerotrust.enrollment.tokens import IssuedToken
from zerotrust.errors import CertificateRefused, EnrollmentError, NotFound, PkiError, StateError
from zerotrust.pki.chain_verification import is_ours
from zerotrust.pki.identity import agent_id_of
from zerotrust.pki.proof_of_possession import proves
from zerotrust.server.identity.authority import Authority
from zerotrust.server.identity.authorization import Authorization
from zerotrust.telemetry import logs

DATABASE = "database"
FILE = "file"
"""Sources of grants in the table of all grants."""

LONGEST_CHAIN = 4
"""Certificates in a chain that an unauthenticated client may have us verify."""

T = TypeVar("T")

_log = logs.logger("identity")


class LiveSessions(Protocol):
    """Sessions of agents with this server (`server.agents.session_control`)."""

    def is_connected(self, agent: str) -> bool:
        """Return True where the agent has a session."""

    def reauthorize(self) -> None:
        """Check all grants again; end the requests of host names that are no longer granted."""

    def revoke(self, agent: str, serial: str | None, reason: str) -> tuple[int, int]:
        """End sessions of an agent or certificate; return the numbers of sessions and streams."""

    def close_revoked(self) -> None:
        """End the sessions of all agents that are revoked by now."""


@dataclass(frozen=True, slots=True)
class RevocationResult:
    """A revocation, with the numbers of sessions and streams that it ended."""

    revocation: RevocationRow
    sessions: int
    streams: int


def _now() -> datetime:
    return datetime.now(UTC)


class AgentDirectory:
    """Use cases of join tokens, certificates, grants and revocations (`enrollment_api.Enrollment`).

    `load` must be called before the first agent may connect.

    Args:
        authority: None where certificates are issued by hand; then agents can neither join nor
            renew.
        clock: aware, UTC.

    Attributes:
        attempts: the rate limits of joins and renewals.
    """

    def __init__(
        self,
        database: Database,
        *,
        authorization: Authorization,
        sessions: LiveSessions,
        authority: Authority | None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._database = database
        self._authorization = authorization
        self._sessions = sessions
        self._authority = authority
        self._clock = clock
        self.attempts = Attempts()
        self._ration = RefusalLog()
        self._overlaps: frozenset[tuple[Pair, Pair]] = frozenset()

    @property
    def database(self) -> str:
        """Name of the database, for people."""
        return self._database.name

    @property
    def authority(self) -> Authority | None:
        """The authority that issues certificates now."""
        return self._authority

    def reconfigure(self, authority: Authority | None) -> None:
        """Issue certificates by another authority from now on."""
        self._authority = authority

    async def load(self) -> None:
        """Read grants and revocations from the database, and apply them.

        Raises:
            StateError: it can't be read.
        """
        now = self._seconds()
        pairs, revoked = await self._database.run(
            lambda session: (grant_rows.pairs(session), revocations.load(session, now=now))
        )
        self._authorization.revoked = revoked
        self._sessions.close_revoked()
        if frozenset(pairs) != self._authorization.grants.of(DATABASE):
            self._granted(pairs)

    async def follow(self) -> None:
        """Apply what other servers commit to the same database, until cancelled.

        While the database cannot be read, the last state stays in use.
        """
        watch, lost = ChangeWatch(self._database), False
        while True:
            await watch.wait()
            try:
                if await watch.changed():
                    await self.load()
                lost = False
            except StateError as error:
                watch.failed()
                if not lost:
                    _log.error(
                        "cannot read changes made by other servers; using last known state",
                        reason=str(error),
                    )
                lost = True

    # ---- certificates

    async def join(self, token: str, csr_pem: bytes, peer: str) -> IssuedCertificate:
        """Use up a join token, and issue the first certificate of its agent.

        Raises:
            EnrollmentRefused: with the reason, in words for the client.
            PkiError, StateError: the server cannot issue certificates now.
        """
        authority, now = self._authority_or_raise(), self._clock()
        self.attempts.admit(peer, time.monotonic())

        def work(session: Session) -> tuple[IssuedCertificate, list[tuple[str, str]]]:
            joined = join.join(
                session,
                authority.issuer,
                token=token,
                csr_pem=csr_pem,
                lifetime=authority.agent_lifetime,
                client=peer,
                now=now,
                rationed=self._rationed,
            )
            return joined, grant_rows.pairs(session)

        joined, pairs = await self._database.run(work)
        self._granted(pairs)
        return joined

    def root_pem(self) -> bytes:
        """Return the root certificate that agents trust, PEM.

        Raises:
            EnrollmentError: this server has no authority.
        """
        return self._authority_or_raise().root_pem

    async def renew(self, agent_id: str, serial: str, csr_pem: bytes) -> IssuedCertificate:
        """Issue a new certificate for a connected agent, in place of the one with this serial.

        Raises:
            EnrollmentRefused: with the reason, in words for the agent.
            PkiError, StateError: the server cannot issue certificates now.
        """
        authority, now = self._authority_or_raise(), self._clock()
        self.attempts.renewal(agent_id, time.monotonic())
        return await self._database.run(
            lambda session: join.renew(
                session,
                authority.issuer,
                agent_id=agent_id,
                serial=serial,
                csr_pem=csr_pem,
                lifetime=authority.agent_lifetime,
                now=now,
                rationed=self._rationed,
            )
        )

    async def renew_expired(
        self, chain_pem: bytes, csr_pem: bytes, proof: bytes, peer: str
    ) -> IssuedCertificate:
        """Issue a new certificate for an agent whose old one has expired.

        Raises:
            EnrollmentRefused: with the reason, in words for the client.
            PkiError, StateError: the server cannot issue certificates now.
        """
        authority, now = self._authority_or_raise(), self._clock()
        self.attempts.admit(peer, time.monotonic())
        certificate = _proven_certificate(chain_pem, csr_pem, proof, authority)
        self.attempts.renewal(agent_id_of(certificate), time.monotonic())
        return await self._database.run(
            lambda session: expired_renewal.renew_expired(
                session,
                authority.issuer,
                certificate=certificate,
                csr_pem=csr_pem,
                lifetime=authority.agent_lifetime,
                client=peer,
                now=now,
                rationed=self._rationed,
            )
        )

    # ---- tokens

    async def create_token(
        self, agent: str, hosts: list[str], *, lifetime: timedelta, actor: str
    ) -> IssuedToken:
        """Create a join token for an agent, which is granted these host names when it joins.

        Raises:
            EnrollmentError: a name or the lifetime is invalid, or this server issues no
                certificates.
        """
        self._authority_or_raise()
        now = self._clock()
        made = await self._database.run(
            lambda session: tokens.create_token(
                session, agent_id=agent, patterns=hosts, lifetime=lifetime, actor=actor, now=now
            )
        )
        return replace(
            made, warnings=made.warnings + self._overlap_warnings(made.agent_id, made.patterns)
        )

    async def cancel_token(self, number: int, *, actor: str) -> JoinTokenRow:
        """Cancel an unused join token.

        Raises:
            EnrollmentError: there is no unused token of this number.
        """
        now = self._clock()
        return await self._database.run(
            lambda session: tokens.cancel_token(session, number, actor=actor, now=now)
        )

    async def tokens(self) -> list[JoinTokenRow]:
        """Return all stored tokens, the newest first."""
        return await self._database.run(tokens.list_tokens)

    # ---- grants

    async def add_grant(self, agent: str, host: str, *, actor: str) -> Granted:
        """Let an agent serve a host name, or the names one label below; effective at once.

        Raises:
            EnrollmentError: the agent's id or the name is invalid.
        """
        now = self._clock()

        def work(session: Session) -> tuple[Granted, list[tuple[str, str]]]:
            granted = grants.add_grant(session, agent_id=agent, pattern=host, actor=actor, now=now)
            return granted, grant_rows.pairs(session)

        granted, pairs = await self._database.run(work)
        self._granted(pairs)
        return replace(
            granted,
            warnings=granted.warnings + self._overlap_warnings(granted.agent_id, [granted.pattern]),
        )

    async def remove_grant(self, agent: str, host: str, *, actor: str) -> bool:
        """Remove a grant; return True where the server's file still grants the same.

        Raises:
            EnrollmentError: there is no grant like that, or only in the server's file.
        """
        now = self._clock()

        def work(session: Session) -> list[tuple[str, str]]:
            grants.remove_grant(session, agent_id=agent, pattern=host, actor=actor, now=now)
            return grant_rows.pairs(session)

        try:
            pairs = await self._database.run(work)
        except NotFound:
            if not self._in_file(agent, host):
                raise
            raise EnrollmentError(
                "this grant is in the server's file; remove it there, under grants"
            ) from None
        self._granted(pairs)
        return self._in_file(agent, host)

    async def grants(self, agent: str | None) -> tuple[list[GrantRow], list[tuple[str, str]]]:
        """Return the grants in the database, and those in the file as agent and pattern."""
        stored = await self._database.run(lambda session: grants.list_grants(session, agent))
        filed = self._authorization.grants.of(FILE)
        return stored, sorted(pair for pair in filed if agent in (None, pair[0]))

    def hosts_granted(self) -> Counter[str]:
        """Count the host names and wildcards that file and database grant to each agent."""
        both = self._authorization.grants.of(FILE) | self._authorization.grants.of(DATABASE)
        return Counter(agent for agent, _ in both)

    def log_overlaps(self) -> None:
        """Log overlaps of grants that are new (see `enrollment.overlaps`)."""
        found = self._authorization.grants.overlaps()
        new = [overlap for overlap in found if overlap not in self._overlaps]
        self._overlaps = frozenset(found)
        for (holder, wildcard), (agent, host) in new[:MAX_WARNINGS]:
            _log.warning(
                "grants overlap: two agents may serve a host name",
                host_name=host,
                agent=agent,
                wildcard=wildcard,
                wildcard_agent=holder,
            )
        if len(new) > MAX_WARNINGS:
            _log.warning("more grants overlap", count=len(new) - MAX_WARNINGS)

    # ---- agents

    async def agents(self) -> list[AgentSummary]:
        """Return all agents in the database."""
        now = self._clock()
        return await self._database.run(lambda session: queries.list_agents(session, now))

    async def agent(self, agent: str) -> AgentHistory:
        """Return what the database knows about one agent.

        Raises:
            NotFound: the agent is not in the database.
        """
        now = self._clock()
        return await self._database.run(lambda session: queries.show_agent(session, agent, now))

    async def revoke(
        self, agent: str, serial: str | None, *, reason: str, actor: str
    ) -> RevocationResult:
        """Reject an agent, or one of its certificates, from now on, and end its sessions.

        Raises:
            NotFound: the agent is neither in the database nor connected.
        """
        now = self._clock()
        connected = self._sessions.is_connected(agent)

        def work(session: Session) -> tuple[RevocationRow, revocations.RevocationList]:
            row = revocation.revoke(
                session,
                agent_id=agent,
                serial=serial,
                reason=reason,
                connected=connected,
                actor=actor,
                now=now,
            )
            return row, revocations.load(session, now=int(now.timestamp()))

        row, self._authorization.revoked = await self._database.run(work)
        serial = row.serial or None  # normalised by the transaction
        sessions, streams = self._sessions.revoke(agent, serial, "revoked")
        _log.warning(
            "agent revoked",
            agent=agent,
            serial=serial,
            actor=actor,
            sessions=sessions,
            streams=streams,
        )
        return RevocationResult(row, sessions, streams)

    async def restore(self, agent: str, serial: str | None, *, reissue: bool, actor: str) -> None:
        """Undo a revocation.

        Raises:
            NotFound: there is none.
        """
        now = self._clock()

        def work(session: Session) -> revocations.RevocationList:
            revocation.restore(
                session, agent_id=agent, serial=serial, reissue=reissue, actor=actor, now=now
            )
            return revocations.load(session, now=int(now.timestamp()))

        self._authorization.revoked = await self._database.run(work)
        _log.info("agent restored", agent=agent, serial=serial, actor=actor)

    # ----

    def _authority_or_raise(self) -> Authority:
        if self._authority is None:
            raise EnrollmentError(
                "this server issues no certificates: set authority.cert_file and authority.key_file"
                " in its file to the issuer.crt and issuer.key that `0trust ca init` makes"
            )
        return self._authority

    def _rationed(self, kind: str) -> int | None:
        """Called in the database's thread alone."""
        return self._ration.take(kind, time.monotonic())

    def _granted(self, pairs: list[tuple[str, str]]) -> None:
        self._authorization.grants.replace(DATABASE, pairs)
        self.log_overlaps()
        self._sessions.reauthorize()

    def _overlap_warnings(self, agent: str, patterns: list[str]) -> list[str]:
        """Return warnings about patterns that the agent has, or gets when it joins."""
        new = [(agent, pattern) for pattern in patterns]
        table, grants = GrantTable(), self._authorization.grants
        table.replace("all", [*grants.of(FILE), *grants.of(DATABASE), *new])
        return overlap_warnings(table, new)

    def _in_file(self, agent: str, host: str) -> bool:
        try:
            return (agent, parse_pattern(host)) in self._authorization.grants.of(FILE)
        except ValueError:
            return False

    def _seconds(self) -> int:
        return int(self._clock().timestamp())


def _proven_certificate(
    chain_pem: bytes, csr_pem: bytes, proof: bytes, authority: Authority
) -> x509.Certificate:
    """Return the certificate of an agent that has proved possession of its key.

    Raises:
        CertificateRefused: our authority did not issue it, it names no agent, or its key did not
            sign the CSR.
    """
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
        roots = x509.load_pem_x509_certificates(authority.root_pem)
        agent_id_of(chain[0])
    except (ValueError, x509.InvalidVersion, PkiError):
        raise CertificateRefused("this is not the certificate of an agent") from None
    if len(chain) > LONGEST_CHAIN or not any(
        is_ours(chain, authority.issuer, root) for root in roots
    ):
        raise CertificateRefused(
            "this certificate was not issued here; ask for a join token and join"
        )
    if not proves(chain[0].public_key(), csr_pem, proof):
        raise CertificateRefused("the key of the certificate did not sign this")
    return chain[0]
