"""Page of services: each host name with its agent, and who may enter, in words."""

from collections.abc import Mapping
from typing import Any, ClassVar

from zerotrust.model.admin import NoParameters
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.listing import Listing, page_of
from zerotrust.server.dashboard.live_page import LivePage
from zerotrust.server.dashboard.parts import DashboardParts


class ServicesPage(LivePage):
    """All services, and the rules of host names."""

    path: ClassVar = "/services"
    template: ClassVar = "services"
    title: ClassVar = "Services"

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["services"] = Fragment(
            "services_list", self._services, lambda _view: parts.commands.live_agents()
        )
        self.fragments["rules"] = Fragment("services_rules", self._rules)

    async def _services(self, view: View) -> Mapping[str, Any]:
        services = self.parts.commands.services
        served = services.served_hosts(view.get("host").lower())
        listed = page_of(served, lambda one: f"{one.host} {one.agent} {one.service}", view)
        rows = list(map(services.view, listed.rows))
        return {"services": Listing(rows, listed.next, listed.total)}

    async def _rules(self, _view: View) -> Mapping[str, Any]:
        return {"hosts": (await self.parts.rules.hosts(NoParameters(), "")).hosts}
