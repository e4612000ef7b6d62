"""Page of one connection, with the captures of its messages."""

from collections.abc import Mapping
from typing import Any, ClassVar

from zerotrust.errors import NotFound
from zerotrust.model.traffic_admin import ConnectionInfo
from zerotrust.server.dashboard.capture_page import captures_fragment
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
            "connection_details", self._details, self._find, follows_audit=False
        )
        self.fragments["captures"] = captures_fragment(
            parts, lambda view, capture: capture.connection == view.get("id")
        )

    async def values(self, view: View, visit: Any) -> Mapping[str, Any]:
        return {"one": self._find(view)}

    def _find(self, view: View) -> ConnectionInfo | None:
        try:
            return self.parts.commands.connections.connection(view.get("id"))
        except NotFound:
            return None

    async def _details(self, view: View) -> Mapping[str, Any]:
        return {"one": self._find(view)}
