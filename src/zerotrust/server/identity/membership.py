"""Membership: the servers that share a database, and the lease of this one.

A server with an address for agents (`server.member_addr`) renews its lease every few seconds. When
its lease ends, the others forget it. A server that stops does not end its lease itself, because a
restart takes less time: agents go on dialling meanwhile, and are back at once.

While the database cannot be read, the servers last seen stay known. When it is back after some
time, the leases of all have ended: then each has another lease's time to come back.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import Metric
from sqlalchemy.orm import Session

from zerotrust import __version__
from zerotrust.db import servers
from zerotrust.db.database import Database
from zerotrust.db.servers import LEASE
from zerotrust.db.tables import ServerRow
from zerotrust.errors import PkiError, StateError
from zerotrust.pki import keys
from zerotrust.telemetry import logs
from zerotrust.telemetry.metrics import gauge

_log = logs.logger("identity")

FILE: Final = "server-id"
"""File in `state.dir` with the id of this server."""
RENEW_EACH: Final = 3.0
"""Seconds between two renewals of the lease, each with a look at the other servers."""
SOON: Final = 0.5
"""Least time between two looks, in seconds: the lease of another server may end in between."""


@dataclass(frozen=True, slots=True)
class MemberServer:
    """A server with a lease.

    Attributes:
        address: where agents reach it, `host:port`.
        since: seconds since 1970.
    """

    id: str
    address: str
    version: str
    since: int


Members = tuple[MemberServer, ...]


class Membership:
    """This server, and the others that share its database. Call `start` before anything else.

    Args:
        server_id: 32 hexadecimal digits; the workers of a server have the same.
        address: where agents reach this server; None if it is not announced.
        renews: this process renews the lease: one of the workers does.
        changed: called when other servers came or went, or another address is known of one.

    Attributes:
        server_id: id of this server.
        members: the servers with a lease, this one too, by id.
    """

    def __init__(
        self,
        database: Database,
        server_id: str,
        *,
        address: str | None,
        renews: bool,
        changed: Callable[[Members], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._address = address
        self._renews = renews
        self._changed = changed
        self._renewed_as: str | None = None
        self._warned: set[str] = set()
        self._clock = clock
        self._looked_at = clock()
        self._forgets_from = self._looked_at
        self._next_end = RENEW_EACH
        self._wake = asyncio.Event()
        self.server_id = server_id
        self.members: Members = ()

    @property
    def others(self) -> Members:
        """The servers with a lease, without this one."""
        return tuple(one for one in self.members if one.id != self.server_id)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the servers that share the database."""
        meaning = "Servers that hold a lease in the shared database, including this one."
        yield gauge("members", meaning, len(self.members))

    def reconfigure(self, address: str | None) -> None:
        """Announce another address, or none, from now on."""
        if address != self._address:
            self._address = address
            self._wake.set()

    async def look(self) -> None:
        """Renew the lease and read those of all servers.

        Raises:
            StateError: the database can't be used.
        """
        address, renews, ends = self._address, self._renews, self._renewed_as
        before: ServerRow | None = None

        def work(session: Session) -> tuple[list[ServerRow], int]:
            nonlocal before
            if renews and address is not None:
                before = servers.renew(
                    session, self.server_id, address=address, version=__version__
                )
            elif renews and ends is not None:
                servers.remove(session, self.server_id)
            return servers.listed(session), servers.clock(session)

        rows, unix_time = await self._database.run(work)
        self._note_clash(before, address)
        if renews:
            self._renewed_as = address
        self._take(rows, unix_time)

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        lost = False
        while True:
            try:
                async with asyncio.timeout(min(RENEW_EACH, max(self._next_end, SOON))):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.look()
                lost = False
            except StateError as error:
                if not lost:
                    _log.error(
                        "cannot renew this server's lease; using the servers last seen",
                        reason=str(error),
                    )
                lost = True

    # ---- inside

    def _take(self, rows: list[ServerRow], unix_time: int) -> None:
        now = self._clock()
        if now - self._looked_at > LEASE / 2:
            self._forgets_from = now + LEASE
        self._looked_at = now
        found = {row.id: MemberServer(row.id, row.address, row.version, row.since) for row in rows}
        known = {one.id: one for one in self.members}
        if now < self._forgets_from:
            found = {**known, **found}
        ends = [row.lease_ends_at - unix_time for row in rows if row.id != self.server_id]
        self._next_end = min(ends, default=RENEW_EACH)
        self._log_changes(known, found)
        members = tuple(found[one] for one in sorted(found))
        if members != self.members:
            self.members = members
            self._changed(members)

    def _log_changes(self, known: dict[str, MemberServer], found: dict[str, MemberServer]) -> None:
        for one in found.values():
            if one.id != self.server_id and one.id not in known:
                _log.info("server joined", server=one.id[:8], address=one.address)
            if one.id != self.server_id and one.address == self._address:
                self._warn_once(
                    one.id,
                    "another server announces the address of this one: give each its own"
                    " server.member_addr",
                )
        for one in known.values():
            if one.id != self.server_id and one.id not in found:
                _log.info("server gone", server=one.id[:8], address=one.address)

    def _note_clash(self, before: ServerRow | None, address: str | None) -> None:
        """Log that another server has renewed the lease of this one under its own address."""
        ours = (address, self._renewed_as)
        if before is not None and self._renewed_as is not None and before.address not in ours:
            self._warn_once(
                before.address,
                f"another server uses the id of this one: stop it and remove {FILE} in its"
                " state.dir",
            )

    def _warn_once(self, about: str, text: str) -> None:
        if about not in self._warned and len(self._warned) < servers.MAX_LISTED:
            self._warned.add(about)
            _log.error(text, other=about)


def load_server_id(folder: Path) -> str:
    """Return the id in a server's `state.dir`; make a random one if there is none.

    Raises:
        StateError: the file can't be read or written, or has no id.
    """
    path = folder / FILE
    try:
        text = keys.read_or_create(path, lambda: secrets.token_hex(16), what="id of the server")
    except PkiError as error:
        raise StateError(str(error)) from error
    if len(text) != 32 or not set(text) <= set("0123456789abcdef"):
        raise StateError(f"{path}: no id of 32 hexadecimal digits; remove the file")
    return text
