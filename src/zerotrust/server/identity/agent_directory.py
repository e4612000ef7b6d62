"""What is decided about agents, grants and tokens: first kept by the database, then at once true of the running server.

Each decision is one transaction, which also reads what holds after it. So what the server goes by is replaced whole, in
the order of the transactions, and a decision that was not kept changes nothing. All of it runs in the loop's thread;
the transactions in the database's own. Callers are not cancelled while they wait: what was kept must be made true.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from sqlalchemy.orm import Session

from zerotrust.db import grants as grant_rows
from zerotrust.db import revocations
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
from zerotrust.errors import CertificateRefused, EnrolmentError, NotFound, PkiError, StateError
from zerotrust.pki.chain_verification import is_ours
from zerotrust.pki.identity import agent_id_of
from zerotrust.pki.proof_of_possession import proves
from zerotrust.server.agents.session_control import Connected, RevocationResult, SessionControl
from zerotrust.server.identity.authority import Authority
from zerotrust.server.identity.authorization import Authorization
from zerotrust.telemetry import logs

DATABASE = "database"
FILE = "file"
"""Where grants come from, in the table of all grants."""

LONGEST_CHAIN = 4
"""Certificates of a chain whose signatures we are willing to check for a stranger."""

FOLLOW_EACH: Final = 0.5
"""Seconds between two looks at what other servers have decided: an agent that is revoked there is gone in a second."""

T = TypeVar("T")

_log = logs.logger("identities")


@dataclass(frozen=True, slots=True)
class AppliedRevocation:
    """A revocation, and what it has ended."""

    revocation: RevocationRow
    cut: RevocationResult


def _now() -> datetime:
    return datetime.now(UTC)


class AgentDirectory:
    """Decides by the database, and makes it hold.

    `load` comes before the first agent may connect.

    Args:
        authority: None where certificates are made by hand; then nobody joins or renews.
        clock: aware, UTC.
    """

    def __init__(
        self,
        database: Database,
        *,
        admission: Authorization,
        sessions: SessionControl,
        authority: Authority | None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._database = database
        self._admission = admission
        self._sessions = sessions
        self._authority = authority
        self._clock = clock
        self._attempts = Attempts()
        self._ration = RefusalLog()
        self._overlaps: frozenset[tuple[Pair, Pair]] = frozenset()

    @property
    def database(self) -> str:
        """The database's name, for people."""
        return self._database.name

    @property
    def authority(self) -> Authority | None:
        """What certificates are made with at the moment."""
        return self._authority

    def use(self, authority: Authority | None) -> None:
        """Make certificates with this from now on."""
        self._authority = authority

    async def load(self) -> None:
        """Go by what the database holds.

        Raises:
            StateError: it can't be read.
        """
        now = self._seconds()
        pairs, revoked = await self._database.run(
            lambda session: (grant_rows.pairs(session), revocations.load(session, now=now))
        )
        self._admission.revoked = revoked
        self._sessions.recheck()
        if frozenset(pairs) != self._admission.grants.of(DATABASE):
            self._granted(pairs)

    async def follow(self) -> None:
        """Go by what other servers of the same database decide, until cancelled; what was known holds meanwhile."""
        lost = False
        while True:
            await asyncio.sleep(FOLLOW_EACH)
            try:
                await self.load()
                lost = False
            except StateError as error:
                if not lost:
                    _log.error("what other servers decide is not heard of", reason=str(error))
                lost = True

    # ---- certificates

    async def join(self, token: str, csr_pem: bytes, peer: str) -> IssuedCertificate:
        """Let in who has a token, and give it its first certificate (server.identity.enrollment_api.Enrolment).

        Raises:
            EnrolmentRefused: and why, in words for the asker.
            PkiError, StateError: a fault of ours.
        """
        authority, now = self._issuing(), self._clock()
        self._attempts.admit(peer, time.monotonic())

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
        """The certificate that agents trust (server.identity.enrollment_api.Enrolment).

        Raises:
            EnrolmentError: there is no authority here.
        """
        return self._issuing().root_pem

    async def renew(self, agent_id: str, serial: str, csr_pem: bytes) -> IssuedCertificate:
        """A new certificate for an agent that is connected with the one of this serial.

        Raises:
            EnrolmentRefused: and why, in words for the agent.
            PkiError, StateError: a fault of ours.
        """
        authority, now = self._issuing(), self._clock()
        self._attempts.renewal(agent_id, time.monotonic())
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

    async def come_back(self, chain_pem: bytes, csr_pem: bytes, proof: bytes, peer: str) -> IssuedCertificate:
        """A new certificate for an agent whose old one has ended (server.identity.enrollment_api.Enrolment).

        Raises:
            EnrolmentRefused: and why, in words for the asker.
            PkiError, StateError: a fault of ours.
        """
        authority, now = self._issuing(), self._clock()
        self._attempts.admit(peer, time.monotonic())
        certificate = _shown(chain_pem, csr_pem, proof, authority)
        self._attempts.renewal(agent_id_of(certificate), time.monotonic())
        return await self._database.run(
            lambda session: expired_renewal.come_back(
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

    async def create_token(self, agent: str, hosts: list[str], *, lifetime: timedelta, actor: str) -> IssuedToken:
        """Create a join token for an agent, which is granted these host names when it joins.

        Raises:
            EnrolmentError: a name or time that does not do, or nobody can join here.
        """
        self._issuing()
        now = self._clock()
        made = await self._database.run(
            lambda session: tokens.create_token(
                session, agent_id=agent, patterns=hosts, lifetime=lifetime, actor=actor, now=now
            )
        )
        return replace(made, warnings=made.warnings + self._overlap_warnings(made.agent_id, made.patterns))

    async def cancel_token(self, number: int, *, actor: str) -> JoinTokenRow:
        """Cancel a join token.

        Raises:
            EnrolmentError: there is none that could be taken back.
        """
        now = self._clock()
        return await self._database.run(lambda session: tokens.cancel_token(session, number, actor=actor, now=now))

    async def tokens(self) -> list[JoinTokenRow]:
        """All that are remembered, the newest first."""
        return await self._database.run(tokens.list_tokens)

    # ---- grants

    async def add_grant(self, agent: str, host: str, *, actor: str) -> Granted:
        """Let an agent serve a host name, or one label below it; it holds for services that wait for it already.

        Raises:
            EnrolmentError: the id or the name does not do.
        """
        now = self._clock()

        def work(session: Session) -> tuple[Granted, list[tuple[str, str]]]:
            granted = grants.add_grant(session, agent_id=agent, pattern=host, actor=actor, now=now)
            return granted, grant_rows.pairs(session)

        granted, pairs = await self._database.run(work)
        self._granted(pairs)
        return replace(granted, warnings=granted.warnings + self._overlap_warnings(granted.agent_id, [granted.pattern]))

    async def remove_grant(self, agent: str, host: str, *, actor: str) -> bool:
        """Take a grant back; True where the server's file still says the same.

        Raises:
            EnrolmentError: there is no such grant, or only in the server's file.
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
            raise EnrolmentError("this grant stands in the server's file, under grants; take it out there") from None
        self._granted(pairs)
        return self._in_file(agent, host)

    async def grants(self, agent: str | None) -> tuple[list[GrantRow], list[tuple[str, str]]]:
        """Those of the database, and those of the file as agent and pattern."""
        kept = await self._database.run(lambda session: grants.list_grants(session, agent))
        filed = self._admission.grants.of(FILE)
        return kept, sorted(pair for pair in filed if agent in (None, pair[0]))

    def hosts_granted(self) -> Counter[str]:
        """How many host names and wildcards each agent has been granted, by file and database together."""
        both = self._admission.grants.of(FILE) | self._admission.grants.of(DATABASE)
        return Counter(agent for agent, _ in both)

    def log_overlaps(self) -> None:
        """Log overlaps of grants that were not there before (see `enrollment.overlaps`)."""
        found = self._admission.grants.overlaps()
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
        """All that the database knows."""
        now = self._clock()
        return await self._database.run(lambda session: queries.list_agents(session, now))

    async def agent(self, agent: str) -> AgentHistory:
        """All that the database knows about one.

        Raises:
            NotFound: nothing.
        """
        now = self._clock()
        return await self._database.run(lambda session: queries.show_agent(session, agent, now))

    def connected(self) -> list[Connected]:
        """The sessions that there are."""
        return self._sessions.connected()

    async def revoke(self, agent: str, serial: str | None, *, reason: str, actor: str) -> AppliedRevocation:
        """Refuse an agent, or one certificate of it, from now on, and end what it has.

        Raises:
            NotFound: nobody has heard of it.
        """
        now = self._clock()
        connected = any(session.agent == agent for session in self._sessions.connected())

        def work(session: Session) -> tuple[RevocationRow, revocations.RevocationList]:
            row = revocation.revoke(
                session, agent_id=agent, serial=serial, reason=reason, connected=connected, actor=actor, now=now
            )
            return row, revocations.load(session, now=int(now.timestamp()))

        row, self._admission.revoked = await self._database.run(work)
        serial = row.serial or None  # as it is compared, however it was written
        cut = self._sessions.cut(agent, serial, "revoked")
        _log.warning(
            "agent revoked", agent=agent, serial=serial, actor=actor, sessions=cut.sessions, streams=cut.streams
        )
        return AppliedRevocation(row, cut)

    async def restore(self, agent: str, serial: str | None, *, reissue: bool, actor: str) -> None:
        """Take a revocation back.

        Raises:
            NotFound: there is none.
        """
        now = self._clock()

        def work(session: Session) -> revocations.RevocationList:
            revocation.restore(session, agent_id=agent, serial=serial, reissue=reissue, actor=actor, now=now)
            return revocations.load(session, now=int(now.timestamp()))

        self._admission.revoked = await self._database.run(work)
        _log.info("agent restored", agent=agent, serial=serial, actor=actor)

    # ----

    def _issuing(self) -> Authority:
        if self._authority is None:
            raise EnrolmentError(
                "this server issues no certificates: set authority.cert_file and authority.key_file in its file to "
                "the issuer.crt and issuer.key that `0trust ca init` makes"
            )
        return self._authority

    def _rationed(self, kind: str) -> int | None:
        """Only ever called in the database's thread."""
        return self._ration.take(kind, time.monotonic())

    def _granted(self, pairs: list[tuple[str, str]]) -> None:
        self._admission.grants.replace(DATABASE, pairs)
        self.log_overlaps()
        self._sessions.rejudge()

    def _overlap_warnings(self, agent: str, patterns: list[str]) -> list[str]:
        """Warn of patterns that the agent has, or will have when it joins."""
        new = [(agent, pattern) for pattern in patterns]
        table, grants = GrantTable(), self._admission.grants
        table.replace("all", [*grants.of(FILE), *grants.of(DATABASE), *new])
        return overlap_warnings(table, new)

    def _in_file(self, agent: str, host: str) -> bool:
        try:
            return (agent, parse_pattern(host)) in self._admission.grants.of(FILE)
        except ValueError:
            return False

    def _seconds(self) -> int:
        return int(self._clock().timestamp())


def _shown(chain_pem: bytes, csr_pem: bytes, proof: bytes, authority: Authority) -> x509.Certificate:
    """The certificate of an agent that has shown that it has its key.

    Raises:
        CertificateRefused: it is not of our authority, names no agent, or its key did not sign this.
    """
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
        roots = x509.load_pem_x509_certificates(authority.root_pem)
        agent_id_of(chain[0])
    except (ValueError, x509.InvalidVersion, PkiError):
        raise CertificateRefused("this is not the certificate of an agent") from None
    if len(chain) > LONGEST_CHAIN or not any(is_ours(chain, authority.issuer, root) for root in roots):
        raise CertificateRefused("this certificate was not issued here; ask for a join token and join")
    if not proves(chain[0].public_key(), csr_pem, proof):
        raise CertificateRefused("the key of the certificate did not sign this")
    return chain[0]
