"""Certificate orders: one member at a time orders the public certificate of a host name.

Members that share no folder order a certificate each. In turn, an order meets no other one for the
same name. Caddy asks for permission before it orders, so that is where a member waits for its turn.
Caddy does not say when an order has ended: the certificate in its storage does.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from zerotrust.caddy.render import is_private
from zerotrust.db import certificate_orders
from zerotrust.db.certificate_orders import LEASE
from zerotrust.db.database import Database
from zerotrust.errors import StateError
from zerotrust.net.tasks import Tasks
from zerotrust.server.ops.stored_certificates import certificate_files, is_fresh

PATIENCE: Final = 8.0
"""Seconds for which a member waits for its turn. Caddy waits ten seconds for the permission."""
EACH: Final = 0.5
"""Seconds between two looks at the database, or at Caddy's storage."""
MAX_FOLLOWED: Final = 256
"""Orders whose end is looked for; the leases of others end by themselves."""


class CertificateOrders:
    """Gives this server its turns.

    Args:
        others: returns the other members.
        storage: returns the folder of Caddy's certificates; None where an external Caddy has its
            own. Then nothing waits for a turn.
    """

    def __init__(
        self,
        database: Database,
        server_id: str,
        tasks: Tasks,
        *,
        others: Callable[[], Collection[object]],
        storage: Callable[[], Path | None],
    ) -> None:
        self._database = database
        self._server_id = server_id
        self._tasks = tasks
        self._others = others
        self._storage = storage
        self._followed: set[str] = set()

    def needs_turn(self, host: str) -> bool:
        """Return True if Caddy may be about to order a certificate that other members need, too."""
        storage = self._storage()
        if storage is None or not self._others() or is_private(host):
            return False
        now = time.time()
        return not any(is_fresh(file, now) for file in certificate_files(storage, host))

    def ask(
        self, host: str, decided: Callable[[bool], None], abandoned: Callable[[], bool]
    ) -> None:
        """Wait for the turn, then call `decided`: with False if it did not come in time.

        A renewal goes on without its turn, because Caddy drops the certificate if it is refused.

        Args:
            abandoned: returns True if `decided` is of no use any more.
        """
        self._tasks.spawn(self._ask(host, decided, abandoned), "wait to order a certificate")

    # ---- inside

    async def _ask(
        self, host: str, decided: Callable[[bool], None], abandoned: Callable[[], bool]
    ) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + PATIENCE
        try:
            while not await self._begin(host):
                if abandoned():
                    return
                if loop.time() >= ends_at:
                    decided(bool(certificate_files(self._storage(), host)))
                    return
                await asyncio.sleep(EACH)
                if not self.needs_turn(host):  # the members share a folder, or one has left
                    break
            if abandoned():
                await self._end(host)
            else:
                decided(True)
        except StateError:  # as the rest of the traffic, orders go on without the database
            decided(True)

    async def _begin(self, host: str) -> bool:
        begun = await self._database.run(
            lambda session: certificate_orders.begin(session, host, self._server_id)
        )
        if begun and host not in self._followed and len(self._followed) < MAX_FOLLOWED:
            self._followed.add(host)
            self._tasks.spawn(self._follow(host), "wait for a certificate")
        return begun

    async def _follow(self, host: str) -> None:
        """End the lease when the certificate is there."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + LEASE
        try:
            while host in self._followed and loop.time() < ends_at:
                await asyncio.sleep(EACH)
                if not self.needs_turn(host):
                    await self._end(host)
                    return
        except StateError:
            pass  # the lease ends by itself
        finally:
            self._followed.discard(host)

    async def _end(self, host: str) -> None:
        self._followed.discard(host)
        await self._database.run(
            lambda session: certificate_orders.end(session, host, self._server_id)
        )
