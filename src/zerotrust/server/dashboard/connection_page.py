"""Page of one connection, with the captures of its messages."""

import time
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from zerotrust.errors import NotFound
from zerotrust.server.dashboard.capture_page import captures_fragment
from zerotrust.server.dashboard.connections_page import connections_version
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.live_page import LivePage
from zerotrust.server.dashboard.parts import DashboardParts


class ConnectionPage(LivePage):
    """One connection. The captures stay when it has ended, until their time is over."""

    path: ClassVar = "/connections/show"
    template: ClassVar = "connection"
    title: ClassVar = "Connection"
    parameters: ClassVar = ("id",)

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["connection"] = Fragment(
            "connection_details", self._details, self._version, follows_audit=False
        )
        self.fragments["captures"] = captures_fragment(
            parts, lambda view, capture: capture.connection == view.get("id")
        )

    async def values(self, view: View, visit: Any) -> Mapping[str, Any]:
        return await self._details(view)

    def _version(self, _view: View) -> Hashable:
        return connections_version(self.parts, time.monotonic())

    async def _details(self, view: View) -> Mapping[str, Any]:
        try:
            return {"one": await self.parts.commands.connections.connection(view.get("id"))}
        except NotFound:
            return {"one": None}
