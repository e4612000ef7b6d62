"""Page of one host name: the services that have it, and the captures of their WebSockets."""

from collections.abc import Mapping
from typing import Any, ClassVar

from zerotrust.model.admin import ServiceView
from zerotrust.model.capture_admin import CaptureInfo
from zerotrust.server.dashboard.capture_page import captures_fragment
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.listing import Listing
from zerotrust.server.dashboard.live_page import LivePage
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.proxy.capture import PAYLOAD


class ServicePage(LivePage):
    """One host name or wildcard."""

    path: ClassVar = "/services/show"
    template: ClassVar = "service"
    title: ClassVar = "Service"
    parameters: ClassVar = ("host",)

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["services"] = Fragment(
            "services_list", self._services, lambda _view: parts.commands.live_agents()
        )
        self.fragments["captures"] = captures_fragment(parts, self._shows)

    def heading(self, view: View) -> str:
        return f"Service {view.get('host')}"

    async def values(self, view: View, visit: Any) -> Mapping[str, Any]:
        takes = [one for one in self._served(view) if one.websocket]
        allows = [one for one in takes if one.inspection == PAYLOAD]
        return {"service": next(iter(allows or takes), None)}

    def _served(self, view: View) -> list[ServiceView]:
        services, host = self.parts.commands.services, view.get("host").lower()
        return [services.view(one) for one in services.served_hosts(host) if one.host == host]

    def _shows(self, view: View, capture: CaptureInfo) -> bool:
        return capture.host == view.get("host") or (capture.agent, capture.service) in {
            (one.agent, one.service) for one in self._served(view)
        }

    async def _services(self, view: View) -> Mapping[str, Any]:
        rows = self._served(view)
        return {"services": Listing(rows, {}, len(rows))}
