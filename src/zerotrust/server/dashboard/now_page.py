"""Page Now: the state of the server in a few numbers, and what needs attention."""

from collections.abc import Mapping
from typing import Any, ClassVar

from zerotrust.model.admin import NoParameters
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.live_page import LivePage
from zerotrust.server.dashboard.parts import DashboardParts


class NowPage(LivePage):
    """The first page."""

    path: ClassVar = "/"
    template: ClassVar = "now"
    title: ClassVar = "Now"

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["numbers"] = Fragment(
            "now_numbers", self._numbers, lambda _view: parts.commands.live_numbers()
        )

    async def _numbers(self, _view: View) -> Mapping[str, Any]:
        return {"status": await self.parts.commands.status(NoParameters(), "")}
