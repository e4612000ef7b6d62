"""The audit as the running server keeps it: what it writes there by itself, and what is read from it."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

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

KNOCKS_EACH: Final = 3600.0
"""Seconds in which an agent that is refused gets one record."""
HOSTS_NAMED: Final = 20
"""In one record, of those that were refused together."""
VERIFIED_AT_ONCE: Final = 2000
"""Records in one transaction: no revocation has to wait longer than that takes."""

_log = logs.logger("audit")


class Audit:
    """Adds records of what is decided outside of `server.identity.agent_directory`, and reads them all.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._knocks = CellRate(1, KNOCKS_EACH)
        self._ration = RefusalLog()
        self._refused: TtlCache[bool] = TtlCache(MAX_KEYS)

    async def record(
        self, action: str, *, actor: str, agent: str | None = None, details: Details | None = None
    ) -> None:
        """Add a decision that was made elsewhere to the audit."""
        at = int(self._clock())
        await self._database.run(
            lambda session: audit.append(session, at=at, actor=actor, action=action, agent=agent, details=details)
        )

    async def note(self, action: str, details: Details, *, actor: str = "server", agent: str | None = None) -> None:
        """Add what the server has done, or refused, by itself to the audit. Where that can't be, it goes on."""
        try:
            await self.record(action, actor=actor, agent=agent, details=details)
        except StateError as error:
            _log.error("the audit lacks a record", action=action, reason=str(error))

    async def turned_away(self, agent: str | None, serial: str | None, reason: str) -> None:
        """Add to the audit that an agent was refused with a good certificate: once an hour, as it keeps trying."""
        if not self._knocks.wait(self._knocks.take(f"{agent} {serial}".encode(), time.monotonic())):
            await self.note("agent.refused", {"serial": serial, "reason": reason}, agent=agent)

    def new_refusals(self, agent: str, granted: Sequence[str], refused: Sequence[str]) -> list[str]:
        """Of the host names that an agent was refused those that it was not the last time that it asked for them."""
        for host in granted:
            self._refused.forget(_key(agent, host))
        new = [host for host in refused if not self._refused.get(_key(agent, host), 0.0)]
        for host in new:
            self._refused.put(_key(agent, host), True, until=math.inf)
        return new

    async def hosts_refused(self, agent: str, hosts: Sequence[str]) -> None:
        """Add to the audit that an agent wanted host names that are not granted to it; rationed, as it has many."""
        left_out = self._ration.take(f"hosts of {agent}", time.monotonic())
        if left_out is None:
            return
        details: dict[str, int | Sequence[str]] = {"hosts": hosts[:HOSTS_NAMED], "count": len(hosts)}
        if left_out:
            details["left_out"] = left_out
        await self.note("hosts.refused", details, actor=f"agent {agent}", agent=agent)

    async def records(
        self, after: int | None, limit: int, *, agent: str | None = None, action: str | None = None
    ) -> list[AuditRow]:
        """The oldest records after a number, or the newest of all; in order."""

        def work(session: Session) -> list[AuditRow]:
            if after is None:
                return audit.newest(session, limit=limit, agent=agent, action=action)
            return audit.records(session, after=after, limit=limit, agent=agent, action=action)

        return await self._database.run(work)

    async def verify(self) -> AuditHashChain:
        """Hold the whole audit against its hashes, letting others have the database in between."""
        chain, before = AuditHashChain(), -1
        while chain.broken is None and chain.records > before:
            before = chain.records
            chain = await self._database.run(partial(audit.verify, start=chain, limit=VERIFIED_AT_ONCE))
        return chain


def _key(agent: str, host: str) -> bytes:
    return f"{agent} {host}".encode()
