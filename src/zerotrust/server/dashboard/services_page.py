"""Page of services: each host name with its agent, and who may enter, in words."""

from collections.abc import Mapping
from typing import Any, ClassVar

from zerotrust.model.admin import NoParameters
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.listing import page_of
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
            "services_list", self._services, lambda _view: parts.commands.live_numbers()
        )
        self.fragments["rules"] = Fragment("services_rules", self._rules)

    async def _services(self, view: View) -> Mapping[str, Any]:
        found = await self.parts.commands.services.services(NoParameters(), "")
        wanted = view.get("host").lower()
        services = [one for one in found.services if wanted in one.host]
        listed = page_of(services, lambda one: f"{one.host} {one.agent} {one.service}", view)
        return {"services": listed}

    async def _rules(self, _view: View) -> Mapping[str, Any]:
        return {"hosts": (await self.parts.rules.hosts(NoParameters(), "")).hosts}
