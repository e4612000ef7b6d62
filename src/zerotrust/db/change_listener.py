"""Listener for the notifications of PostgreSQL, by which each commit reaches all servers at once.

A connection pooler in transaction mode accepts LISTEN and loses every notification. So the listener
believes only what it has seen: over the ordinary connections it sends a probe to a channel of its
own, and readers poll seldom from the moment when that arrives (`db.change_watch`). It repeats this
every minute. A connection that is lost, or a probe that does not arrive, makes the readers poll as
often as without notifications, until the next connection has proved itself.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from zerotrust.db import postgresql
from zerotrust.db.database import Database
from zerotrust.errors import StateError
from zerotrust.telemetry import logs

if TYPE_CHECKING:
    from psycopg import AsyncConnection

BACK_OFF_FIRST: Final = 0.5
BACK_OFF_MOST: Final = 15.0
"""Seconds until the next attempt to connect. The pause doubles with each failure."""
PROVE_EACH: Final = 60.0
PROOF_TIMEOUT: Final = 5.0
SETUP_TIMEOUT: Final = 15.0

_log = logs.logger("database")


class ChangeListener:
    """Wakes the readers of a PostgreSQL database when a process has committed something.

    It uses a connection of its own, and reads nothing of a notification but the channel.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._signal = database.signal
        # One for all connections: a pooler may keep what they listen to.
        self._probe = f"zerotrust_probe_{secrets.token_hex(8)}"
        self._told = False
        self._delay = BACK_OFF_FIRST

    async def run(self) -> None:
        """Listen until cancelled; connect again when the connection is lost."""
        import psycopg

        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError, StateError) as error:
                self._say_why(error)
            finally:
                self._signal.prove(False)
            await asyncio.sleep(self._delay)
            self._delay = min(self._delay * 2, BACK_OFF_MOST)

    async def _listen(self) -> None:
        """Listen on one connection, until it is lost or a probe does not arrive."""
        async with asyncio.timeout(SETUP_TIMEOUT):
            connection = await postgresql.listen(
                self._database.engine, (postgresql.CHANGES, self._probe)
            )
        try:
            with _Receiver(connection, self._probe, self._signal.send) as receiver:
                while True:
                    await self._prove(receiver)
                    await receiver.lost(within=PROVE_EACH)
        finally:
            await connection.close()

    async def _prove(self, receiver: "_Receiver") -> None:
        """Send a probe, and wait for it.

        Raises:
            StateError: it could not be sent, or has not arrived.
            psycopg.Error: the connection is lost.
        """
        receiver.probed.clear()
        await self._database.run(self._send_probe)
        try:
            async with asyncio.timeout(PROOF_TIMEOUT):
                await receiver.probed.wait()
        except TimeoutError:
            raise StateError(
                "no notification arrives: a connection pooler in transaction mode loses them"
            ) from None
        receiver.check()
        if not self._signal.proven:
            _log.info("notified of changes by other servers", database=self._database.name)
        self._signal.prove(True)
        self._told, self._delay = False, BACK_OFF_FIRST

    def _send_probe(self, session: Session) -> None:
        session.execute(select(func.pg_notify(self._probe, "")))

    def _say_why(self, error: Exception) -> None:
        """Log the first of several failures."""
        if self._told:
            return
        self._told = True
        _log.warning(
            "not notified of changes by other servers; asking the database twice a second",
            database=self._database.name,
            reason=" ".join(str(error).split()) or "the database does not answer",
        )


class _Receiver:
    """Takes the notifications out of a connection.

    Args:
        probe: the channel of probes.
        changed: called for notifications of all other channels.

    Attributes:
        probed: set when a probe has arrived, or the connection is lost.
    """

    def __init__(
        self, connection: "AsyncConnection[Any]", probe: str, changed: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._descriptor = connection.fileno()
        self._probe = probe.encode()
        self._changed = changed
        self._lost = asyncio.Event()
        self._error: Exception | None = None
        self.probed = asyncio.Event()

    def __enter__(self) -> "_Receiver":
        # `AsyncConnection.notifies` would wake up ten times a second.
        self._loop.add_reader(self._descriptor, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._descriptor)

    async def lost(self, *, within: float) -> None:
        """Return after a time.

        Raises:
            psycopg.Error: the connection is lost; raised as soon as it is.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._lost.wait()
        self.check()

    def check(self) -> None:
        """Raises psycopg.Error: the connection is lost."""
        if self._error is not None:
            raise self._error

    def _read(self) -> None:
        import psycopg

        channels: set[bytes] = set()
        try:
            self._connection.pgconn.consume_input()
            while (notification := self._connection.pgconn.notifies()) is not None:
                channels.add(notification.relname)
        except psycopg.Error as error:
            self._loop.remove_reader(self._descriptor)
            self._error = error
            self._lost.set()
            self.probed.set()
        if self._probe in channels:
            self.probed.set()
        if channels - {self._probe}:
            self._changed()
