"""Audit log of the running server: adds, reads and verifies records."""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from sqlalchemy.orm import Session

from zerotrust.db import audit
from zerotrust.db.audit import AuditHashChain, Details
from zerotrust.db.database import Database
from zerotrust.db.tables import AuditRow
from zerotrust.enrollment.rate_limits import RefusalLog
from zerotrust.errors import StateError
from zerotrust.limits.gcra import MAX_KEYS, CellRate
from zerotrust.limits.ttl_cache import TtlCache
from zerotrust.telemetry import logs

REJECTED_INTERVAL: Final = 3600.0
"""Seconds between two records about the same rejected agent."""
MAX_HOSTS: Final = 20
"""Host names listed in one record, of those that were refused together."""
LOOKED_AT: Final = 200
"""Records of each kind that are looked at for the settings of the servers."""
FORGOTTEN: Final = 30 * 86400.0
"""Seconds after which the settings of a server that has written no more records are ignored."""
VERIFIED_AT_ONCE: Final = 2000
"""Records verified in one transaction. A revocation waits for at most one of these."""

_log = logs.logger("audit")


class OtherServers(NamedTuple):
    """Statements of the servers of one database about themselves.

    Attributes:
        differing: servers whose section `access` differs from that of this one.
        database_ahead: seconds that the clock of the database is ahead.
    """

    differing: list[str]
    database_ahead: float


class Audit:
    """Adds records of events outside of `identity.agent_directory`, and reads all records.

    Args:
        server: name of this server among those of one database.
        clock: seconds since 1970.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float] = time.time, *, server: str = ""
    ) -> None:
        self._database = database
        self.server = server
        self._clock = clock
        self._rejected = CellRate(1, REJECTED_INTERVAL)
        self._refusal_log = RefusalLog()
        self._refused_hosts: TtlCache[bool] = TtlCache(MAX_KEYS)

    async def record(
        self, action: str, *, actor: str, agent: str | None = None, details: Details | None = None
    ) -> None:
        """Add a record of a decision that was made elsewhere.

        Raises:
            StateError: the record was not stored.
        """
        at = int(self._clock())
        await self._database.run(
            lambda session: audit.append(
                session, at=at, actor=actor, action=action, agent=agent, details=details
            )
        )

    async def note(
        self, action: str, details: Details, *, actor: str = "server", agent: str | None = None
    ) -> None:
        """Add a record of an event of the server; log an error where it cannot be stored."""
        try:
            await self.record(action, actor=actor, agent=agent, details=details)
        except StateError as error:
            _log.error("could not write audit record", action=action, reason=str(error))

    async def agent_rejected(self, agent: str | None, serial: str | None, reason: str) -> None:
        """Add a record of a rejected agent with a valid certificate, once an hour."""
        if not self._rejected.wait(
            self._rejected.take(f"{agent} {serial}".encode(), time.monotonic())
        ):
            await self.note("agent.refused", {"serial": serial, "reason": reason}, agent=agent)

    def new_refusals(self, agent: str, granted: Sequence[str], refused: Sequence[str]) -> list[str]:
        """Return the refused host names that the agent was not refused the last time."""
        for host in granted:
            self._refused_hosts.forget(_key(agent, host))
        new = [host for host in refused if not self._refused_hosts.get(_key(agent, host), 0.0)]
        for host in new:
            self._refused_hosts.put(_key(agent, host), True, until=math.inf)
        return new

    async def hosts_refused(self, agent: str, hosts: Sequence[str]) -> None:
        """Add a record of refused host names, with a rate limit for each agent."""
        left_out = self._refusal_log.take(f"hosts of {agent}", time.monotonic())
        if left_out is None:
            return
        details: dict[str, int | Sequence[str]] = {"hosts": hosts[:MAX_HOSTS], "count": len(hosts)}
        if left_out:
            details["left_out"] = left_out
        await self.note("hosts.refused", details, actor=f"agent {agent}", agent=agent)

    async def last_record(self) -> int:
        """Return the number of the last record; 0 without one."""
        return await self._database.run(audit.last_number)

    async def records(
        self,
        after: int | None,
        limit: int,
        *,
        before: int | None = None,
        agent: str | None = None,
        action: str | None = None,
    ) -> list[AuditRow]:
        """Return the oldest records after a number, or the newest, in order.

        Args:
            before: without `after`: return the newest records with a lower number.
        """

        def work(session: Session) -> list[AuditRow]:
            if after is None:
                return audit.newest(session, before=before, limit=limit, agent=agent, action=action)
            return audit.records(session, after=after, limit=limit, agent=agent, action=action)

        return await self._database.run(work)

    async def other_servers(self) -> OtherServers | None:
        """Return how the other servers of a shared database differ; None for a file of this
        machine.

        Raises:
            StateError: the database can't be used.
        """
        if not self._database.shared:
            return None
        now = self._clock()
        ahead = await self._database.unix_time() - now
        records = [
            record
            for action in ("server.started", "configuration.applied")
            for record in await self.records(None, LOOKED_AT, action=action)
        ]
        return OtherServers(differing_servers(records, self.server, now), ahead)

    async def verify(self) -> AuditHashChain:
        """Verify the hash chain of all records, in steps that let other transactions in between."""
        chain, before = AuditHashChain(), -1
        while chain.broken is None and chain.records > before:
            before = chain.records
            chain = await self._database.run(
                partial(audit.verify, start=chain, limit=VERIFIED_AT_ONCE)
            )
        return chain


def differing_servers(records: Iterable[AuditRow], own: str, now: float) -> list[str]:
    """Return the servers whose section `access` differs from that of this one.

    Args:
        records: of `server.started` and `configuration.applied`, from which each server's newest
            digest is taken. Those of a server that has written none for a month are left out.
        own: name of this server.
        now: seconds since 1970.
    """
    newest: dict[str, object] = {}
    for record in sorted(records, key=lambda one: one.number):
        details = json.loads(record.details)
        if "access" in details and record.at > now - FORGOTTEN:
            newest[str(details.get("server"))] = details["access"]
    return sorted(name for name in newest if own in newest and newest[name] != newest[own])


def _key(agent: str, host: str) -> bytes:
    return f"{agent} {host}".encode()
