"""Admin API: captures of WebSockets. It starts and stops them, and returns what they have."""

import codecs
from collections.abc import Iterable
from typing import Final, Protocol

from zerotrust.errors import CaptureRefused, NotFound
from zerotrust.model import capture_admin as views
from zerotrust.model.admin import NoParameters
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.ops.connection_admin import MAX_TEXT, find_exchange, websocket_relay
from zerotrust.server.proxy.capture import PAYLOAD, Capture, CapturedMessage, CaptureOrder
from zerotrust.server.proxy.captures import Captures

_ALL: Final = 2**62
"""Number of a message that no capture has."""
_KINDS: Final[dict[int, views.MessageKind]] = {
    1: "text",
    2: "binary",
    8: "close",
    9: "ping",
    10: "pong",
}


class TellsCaptures(Protocol):
    """Tells captures which WebSockets begin and end (`server.proxy.ingress`)."""

    captures: Captures | None


class CaptureAdmin:
    """Answers commands about captures.

    Args:
        ingress: tells the captures of WebSockets from now on.

    Attributes:
        captures: the captures of this server.
    """

    def __init__(
        self, captures: Captures, registry: Registry, ingress: TellsCaptures | None = None
    ) -> None:
        self.captures = captures
        self._registry = registry
        if ingress is not None:
            ingress.captures = captures

    async def start(self, asked: views.StartCaptureRequest, actor: str) -> views.CaptureInfo:
        """Capture a WebSocket, or the next one of a host name.

        Raises:
            NotFound: there is no such WebSocket or service.
            CaptureRefused: the service does not allow it, or there are too many captures.
            StateError: the audit log cannot be written, so nothing is captured.
        """
        relay = None
        if asked.connection is not None:
            _, exchange = await find_exchange(self._registry.sessions, asked.connection)
            relay, context = websocket_relay(exchange), exchange.context
            registration = context.registration
            if relay is None or not context.connection.tunnelled or registration is None:
                raise NotFound(f"the connection {asked.connection} is no WebSocket")
            host = context.host
            _check_allowed([registration])
        else:
            host = (asked.host or "").lower()
            registrations = self._registry.by_host.get(self._registry.resolve(host))
            if not registrations:
                raise NotFound(
                    f"no agent serves {host[:MAX_TEXT]}; list host names with: 0trust services list"
                )
            registration = _check_allowed(registrations)
        order = CaptureOrder(
            host=host[:MAX_TEXT],
            agent=registration.session.agent,
            service=registration.service,
            connection=asked.connection or "",
            reason=asked.reason,
            actor=actor,
            seconds=asked.time,
        )
        return _view(await self.captures.start(order, relay))

    async def stop(self, asked: views.CaptureRequest, actor: str) -> views.CaptureInfo:
        """Stop a capture, and forget its messages.

        Raises:
            NotFound: there is none, or it was forgotten.
        """
        return _view(self.captures.stop(asked.id, actor))

    async def captures_now(self, _asked: NoParameters, _actor: str) -> views.CaptureList:
        """Return the captures, newest first."""
        return views.CaptureList(captures=self.listed())

    async def messages(
        self, asked: views.CapturedMessageQuery, _actor: str
    ) -> views.CapturedMessageList:
        """Return messages of a capture.

        Raises:
            NotFound: there is none, or it was forgotten.
        """
        capture = self.captures.get(asked.id)
        found = [one for one in capture.messages if one.number > asked.after][: asked.limit]
        return views.CapturedMessageList(
            capture=_view(capture), messages=list(map(_message, found))
        )

    async def newest_messages(self, capture_id: str, count: int) -> views.CapturedMessageList:
        """Return the newest messages of a capture, oldest first.

        Raises:
            NotFound: there is none, or it was forgotten.
        """
        only_capture = views.CapturedMessageQuery(id=capture_id, after=_ALL, limit=1)
        known = (await self.messages(only_capture, "")).capture.messages
        asked = views.CapturedMessageQuery(id=capture_id, after=max(known - count, 0), limit=count)
        return await self.messages(asked, "")

    def listed(self) -> list[views.CaptureInfo]:
        """Return the captures, newest first; those of other workers as they were a second ago."""
        return list(map(_view, reversed(self.captures.all.values())))


def _check_allowed(registrations: Iterable[ServiceRegistration]) -> ServiceRegistration:
    """Return the first service that allows captures; raises CaptureRefused."""
    registrations = list(registrations)
    for one in registrations:
        if one.inspection == PAYLOAD:
            return one
    one = registrations[0]
    raise CaptureRefused(
        f"the service {one.service} does not allow it: set access.inspection of the service to"
        f" payload in the file of the agent {one.session.agent} (it is {one.inspection})"
    )


def _view(capture: Capture) -> views.CaptureInfo:
    order, context = capture.order, capture.context
    registration = None if context is None else context.registration
    state: views.CaptureState = "running"
    if capture.over or capture.is_closed:
        state = "ended"
    elif context is None and not order.connection:
        state = "waiting"
    return views.CaptureInfo(
        id=capture.id,
        state=state,
        host=order.host,
        agent=order.agent if registration is None else registration.session.agent,
        service=order.service if registration is None else registration.service,
        connection=capture.connection,
        reason=order.reason,
        actor=order.actor,
        started_at=int(capture.started_at),
        ends_at=int(capture.ends_at),
        messages=capture.count,
        lost=capture.lost_bytes,
        over=capture.over,
    )


def _message(captured: CapturedMessage) -> views.CapturedMessageInfo:
    message = captured.message
    kind = _KINDS.get(message.opcode, "unknown")
    text, rest, code = "", message.payload, None
    if message.compressed:
        rest = b""
    elif kind == "text":
        # The cut may be inside a character.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text, rest = decoder.decode(message.payload, final=not message.cut), b""
    elif kind == "close":
        code = int.from_bytes(message.payload[:2], "big") if len(message.payload) > 1 else None
        text, rest = message.payload[2:].decode("utf-8", "replace"), b""
    return views.CapturedMessageInfo(
        number=captured.number,
        at=round(captured.time, 3),
        by="client" if captured.from_client else "backend",
        kind=kind,
        size=message.size,
        text=text,
        hex=rest.hex(),
        code=code,
        compressed=message.compressed,
        cut=message.cut and not message.compressed,
    )
