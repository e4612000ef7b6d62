"""Page Now: the state of the server in a few numbers, and what needs attention."""

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Final

from zerotrust.model.admin import NoParameters
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.hour_graphs import drawn, traffic_graphs
from zerotrust.server.dashboard.live_page import LivePage
from zerotrust.server.dashboard.parts import DashboardParts

CERTIFICATE_WARNING: Final = 2 * 86400.0
"""Seconds before the end of an agent's certificate at which the page names it: agents renew theirs
long before."""
ISSUER_WARNING: Final = 30 * 86400.0
MAX_UNHEALTHY_SERVICES: Final = 20
"""Services with unhealthy upstreams that the page names."""


class NowPage(LivePage):
    """The first page."""

    path: ClassVar = "/"
    template: ClassVar = "now"
    title: ClassVar = "Now"
    parameters: ClassVar = ()

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["attention"] = Fragment("now_attention", self._attention, self._minute)
        self.fragments["numbers"] = Fragment("now_numbers", self._numbers, self._live)
        self.fragments["servers"] = Fragment(
            "now_servers", self._servers, self._members, follows_audit=False
        )
        self.fragments["graphs"] = Fragment(
            "now_graphs",
            self._graphs,
            lambda _view: parts.commands.traffic.slot,
            follows_audit=False,
        )

    def _live(self, _view: View) -> Hashable:
        return self.parts.commands.live_numbers()

    def _minute(self, _view: View) -> Hashable:
        """Certificates come nearer to their end without any event."""
        return int(self.parts.site.clock() // 60), self.parts.commands.live_agents()

    def _members(self, _view: View) -> Hashable:
        return self.parts.commands.live_members()

    async def _servers(self, _view: View) -> Mapping[str, Any]:
        return {"servers": (await self.parts.commands.members(NoParameters(), "")).members}

    async def _graphs(self, _view: View) -> Mapping[str, Any]:
        return await drawn(traffic_graphs(await self.parts.commands.traffic.total(), "all"))

    async def _numbers(self, _view: View) -> Mapping[str, Any]:
        return {"status": await self.parts.commands.status(NoParameters(), "")}

    async def _attention(self, _view: View) -> Mapping[str, Any]:
        commands, now = self.parts.commands, self.parts.site.clock()
        status = await commands.status(NoParameters(), "")
        agents = (await commands.agents(NoParameters(), "")).agents
        unhealthy, more_unhealthy = commands.services.unhealthy(MAX_UNHEALTHY_SERVICES)
        return {
            "status": status,
            "unhealthy": unhealthy,
            "more_unhealthy": more_unhealthy,
            "issuer_ends": _ends_within(ISSUER_WARNING, status.issuer_ends_at, now),
            "away": [agent for agent in agents if agent.state == "away" and agent.joined_at],
            "ending": [
                agent
                for agent in agents
                if agent.state != "revoked"
                and _ends_within(CERTIFICATE_WARNING, agent.certificate_ends_at, now)
            ],
        }


def _ends_within(seconds: float, ends_at: int | None, now: float) -> bool:
    return ends_at is not None and ends_at < now + seconds
