"""Page Connections: open WebSockets and long requests, and the end of one of them."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from zerotrust.model.traffic_admin import ConnectionQuery, EndConnectionRequest
from zerotrust.server.dashboard.capture_page import captures_fragment
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.live_page import LivePage, back_to
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.ops.command_parameters import parsed

INTERVAL: Final = 2.0
"""Seconds between two versions of the list: its bytes change all the time."""
ROWS: Final = 100

_FILTERS: Final = ("host", "user", "agent")


def connections_version(parts: DashboardParts, now: float) -> Hashable:
    """Return another value every `INTERVAL`, while there are open connections.

    Args:
        now: seconds of a monotonic clock.
    """
    return int(now // INTERVAL) if parts.commands.connections.any_open else None


class ConnectionsPage(LivePage):
    """The open connections that fit the filters."""

    path: ClassVar = "/connections"
    template: ClassVar = "connections"
    title: ClassVar = "Connections"

    def __init__(
        self, parts: DashboardParts, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(parts)
        self._clock = clock
        self.fragments["captures"] = captures_fragment(parts, lambda _view, _capture: True)
        self.fragments["open"] = Fragment(
            "connections_open", self._open, self._version, follows_audit=False
        )

    def routes(self) -> list[Route]:
        return [*super().routes(), Route("/connections/end", self._end, methods=["POST"])]

    async def values(self, view: View, visit: Any) -> Mapping[str, Any]:
        return {"filters": _filters(view)}

    def _version(self, _view: View) -> Hashable:
        return connections_version(self.parts, self._clock())

    async def _open(self, view: View) -> Mapping[str, Any]:
        filters = _filters(view)
        query = parsed(ConnectionQuery, {**filters, **_given(view, "before"), "limit": ROWS})
        found = await self.parts.commands.connections.connections(query, "")
        rows = found.connections
        following = ""
        if len(rows) == ROWS:
            following = urlencode({**filters, "before": rows[-1].number})
        return {
            "connections": rows,
            "total": found.total,
            "following": following,
            "filters": urlencode(filters),
        }

    async def _end(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(EndConnectionRequest, {"id": form.get("id", "")})
        await self.parts.commands.connections.end(asked, visit.actor)
        filters = _filters(View(request.url.path, tuple(request.query_params.multi_items())))
        return back_to(f"{self.path}?{urlencode(filters)}" if filters else self.path)


def _filters(view: View) -> dict[str, str]:
    """Return the filters that the query names."""
    return {name: value for key in _FILTERS for name, value in _given(view, key).items()}


def _given(view: View, name: str) -> dict[str, str]:
    value = view.get(name).strip()
    return {name: value} if value else {}
