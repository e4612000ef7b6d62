"""All captures of WebSockets: their number and their time are bounded, and each is in the audit
log, from an order with a reason to its end."""

import asyncio
import secrets
from collections.abc import Callable
from time import monotonic, time
from typing import Final, Protocol

from zerotrust.db.audit import Details
from zerotrust.errors import CaptureRefused, NotFound
from zerotrust.net.tasks import Tasks
from zerotrust.server.proxy.capture import PAYLOAD, Capture, CaptureOrder
from zerotrust.server.proxy.request_context import RequestContext
from zerotrust.server.proxy.websocket_relay import WebSocketRelay
from zerotrust.telemetry import logs

MAX_CAPTURES: Final = 8
"""Captures at the same time. Each has at most 1 MiB: 256 KiB of messages, 512 KiB that wait to be
read, and 128 KiB of an incomplete compressed message in each direction."""
TICK: Final = 0.5
"""Seconds between two looks at the clock and at what the service allows."""
SHOWN_SECONDS: Final = 5.0
"""Seconds for which the end of a capture is shown, to those who follow it."""

CLOSED: Final = "the connection has ended"
FAILED: Final = "the capture has failed"
NOT_ALLOWED: Final = "the service no longer allows it"
SERVER_STOPPED: Final = "the server has stopped"
STOPPED: Final = "stopped by an administrator"
TIME_OVER: Final = "its time is over"
"""Reasons for the end of a capture."""

_log = logs.logger("capture")


class CaptureLog(Protocol):
    """Adds records to the audit log (`server.identity.audit`)."""

    async def record(
        self, action: str, *, actor: str, agent: str | None = None, details: Details | None = None
    ) -> None:
        """Add a record; raises StateError where it cannot be stored."""

    async def note(
        self, action: str, details: Details, *, actor: str = "server", agent: str | None = None
    ) -> None:
        """Add a record, or log that it cannot be stored."""


class Captures:
    """The captures of this server.

    Args:
        clock: monotonic seconds, which no change of the time makes longer.
        unix_clock: seconds since 1970.

    Attributes:
        all: the captures by id, oldest first. One whose WebSocket has ended is kept until its time
            is over.
    """

    def __init__(
        self,
        audit: CaptureLog,
        tasks: Tasks,
        *,
        clock: Callable[[], float] = monotonic,
        unix_clock: Callable[[], float] = time,
    ) -> None:
        self._audit = audit
        self._tasks = tasks
        self._clock = clock
        self._unix_clock = unix_clock
        self.all: dict[str, Capture] = {}
        self._waiting: list[Capture] = []

    def get(self, capture_id: str) -> Capture:
        """Return a capture.

        Raises:
            NotFound: there is none, or it was forgotten.
        """
        try:
            return self.all[capture_id]
        except KeyError:
            raise NotFound(
                f"no capture has the id {capture_id}; list them with: 0trust capture list"
            ) from None

    async def start(self, order: CaptureOrder, relay: WebSocketRelay | None) -> Capture:
        """Capture a WebSocket, or the next one of `order.host`.

        Raises:
            CaptureRefused: there is one already, or there are too many.
            StateError: the audit log cannot be written, so nothing is captured.
        """
        self._check(order)
        capture = Capture(
            secrets.token_hex(4), order, clock=self._clock, unix_clock=self._unix_clock
        )
        self.all[capture.id] = capture
        try:
            details: Details = {
                "id": capture.id,
                "host": order.host,
                "service": order.service,
                "connection": order.connection,
                "reason": order.reason,
                "seconds": int(order.seconds),
            }
            await self._audit.record(
                "capture.started", actor=order.actor, agent=order.agent, details=details
            )
        except BaseException:
            del self.all[capture.id]
            raise
        if relay is None:
            self._waiting.append(capture)
        else:
            capture.begin(relay)
        self._tasks.spawn(self._run(capture), "capture")
        return capture

    def stop(self, capture_id: str, actor: str) -> Capture:
        """Stop a capture, and forget its messages; return it.

        Raises:
            NotFound: there is none, or it was forgotten.
        """
        capture = self.get(capture_id)
        capture.stopped_by = actor
        capture.finish(STOPPED)
        return capture

    # ---- from the ingress

    def opened(self, relay: WebSocketRelay) -> None:
        """Begin the capture that waits for this WebSocket."""
        if not self._waiting or relay.context.inspection != PAYLOAD:
            return
        names = (relay.host, relay.registered_host)
        for capture in self._waiting:
            if capture.order.host in names:
                self._waiting.remove(capture)
                capture.begin(relay)
                return

    def closed(self, context: RequestContext) -> None:
        """Note that a WebSocket has ended."""
        for capture in self.all.values():
            if capture.context is context and not capture.over:
                capture.close()

    # ---- inside

    def _check(self, order: CaptureOrder) -> None:
        if sum(not one.is_forgotten for one in self.all.values()) >= MAX_CAPTURES:
            raise CaptureRefused(
                f"there are {MAX_CAPTURES} captures: stop one, or wait until its time is over"
            )
        for capture_id, other in self.all.items():
            if other.over:
                continue
            if order.connection and other.connection == order.connection:
                raise CaptureRefused(f"this connection is captured already: {capture_id}")
            if not order.connection and not other.connection and other.order.host == order.host:
                raise CaptureRefused(f"{order.host} is waited for already: {capture_id}")

    async def _run(self, capture: Capture) -> None:
        why = SERVER_STOPPED
        try:
            why = await self._capture(capture)
        except Exception as error:  # noqa: BLE001 - the connection goes on
            why = FAILED
            _log.error("capture failed; please report this fault", error=repr(error))
        finally:
            if capture in self._waiting:
                self._waiting.remove(capture)
            capture.forget()
            await self._end(capture, why)
        await asyncio.sleep(SHOWN_SECONDS)
        del self.all[capture.id]

    async def _capture(self, capture: Capture) -> str:
        """Read messages; return the reason for which they are to be forgotten."""
        while True:
            await capture.wait(TICK)
            if capture.stopped_by:
                return STOPPED
            if capture.is_due:
                return TIME_OVER
            if capture.context is not None and capture.context.inspection != PAYLOAD:
                return NOT_ALLOWED
            await capture.read()
            if capture.is_closed and not capture.over:
                await self._end(capture, CLOSED)

    async def _end(self, capture: Capture, why: str) -> None:
        """Capture nothing more, and record that once."""
        capture.finish(why)
        if capture.is_recorded:
            return
        capture.is_recorded = True
        details: Details = {
            "id": capture.id,
            "host": capture.order.host,
            "connection": capture.connection,
            "why": capture.over,
            "messages": capture.count,
        }
        actor = capture.stopped_by or "server"
        await self._audit.note("capture.ended", details, actor=actor, agent=capture.order.agent)
