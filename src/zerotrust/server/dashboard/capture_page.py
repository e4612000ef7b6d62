"""Page of a capture: the messages of a WebSocket, for administrators only, who have proven their
identity recently; and the list of captures on the pages of connections and services."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from zerotrust.errors import AccessRefused, NotFound
from zerotrust.model import capture_admin as views
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.listing import ROWS, filled
from zerotrust.server.dashboard.live_page import LivePage, back_to
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.dashboard.visits import Visit
from zerotrust.server.ops.command_parameters import parsed
from zerotrust.server.portal.own_session import is_fresh

PATH: Final = "/connections/capture"


class CapturePage(LivePage):
    """The newest messages of a capture."""

    path: ClassVar = PATH
    template: ClassVar = "capture"
    title: ClassVar = "Messages"
    parameters: ClassVar = ("id",)

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["messages"] = Fragment(
            "capture_messages", self._messages, self._version, kept=False
        )

    def routes(self) -> list[Route]:
        return [
            *super().routes(),
            Route(f"{PATH}/start", self._start, methods=["POST"]),
            Route(f"{PATH}/stop", self._stop, methods=["POST"]),
        ]

    async def _get(self, request: Request) -> Response:
        visit = self.parts.visit(request)
        if not visit.may_change:
            raise AccessRefused("only administrators may see the messages of a WebSocket")
        visit.need_proof()
        return await super()._get(request)

    def may_go_on(self, visit: Visit, client: str) -> bool:
        sign_in = visit.user.sign_in
        may_read = sign_in is not None and is_fresh(self.parts.site, sign_in)
        return may_read and super().may_go_on(visit, client)

    def _version(self, view: View) -> Hashable:
        for one in self.parts.commands.captures.listed():
            if one.id == view.get("id"):
                return one.messages, one.over, one.connection
        return None

    async def _messages(self, view: View) -> Mapping[str, Any]:
        captures = self.parts.commands.captures
        try:
            found = await captures.newest_messages(view.get("id"), ROWS)
        except NotFound:
            return {"capture": None}
        return {"capture": found.capture, "messages": found.messages[::-1]}

    async def _start(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(
            views.StartCaptureRequest, filled(form, "connection", "host", "reason", "time")
        )
        capture = await self.parts.commands.captures.start(asked, visit.actor)
        return back_to(page_of_capture(capture.id))

    async def _stop(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(views.CaptureRequest, filled(form, "id"))
        await self.parts.commands.captures.stop(asked, visit.actor)
        return back_to("/connections")


def page_of_capture(capture_id: str) -> str:
    """Return the address of the page of a capture."""
    return f"{PATH}?{urlencode({'id': capture_id})}"


def captures_fragment(
    parts: DashboardParts, shows: Callable[[View, views.CaptureInfo], bool]
) -> Fragment:
    """Return a fragment that lists captures.

    Args:
        shows: returns True for a capture that belongs on the page.
    """

    def listed(view: View) -> list[views.CaptureInfo]:
        return [one for one in parts.commands.captures.listed() if shows(view, one)]

    async def load(view: View) -> Mapping[str, Any]:
        return {"captures": listed(view)}

    return Fragment("captures_list", load, lambda view: repr(listed(view)), follows_audit=False)
