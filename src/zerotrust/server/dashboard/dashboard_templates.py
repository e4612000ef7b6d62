"""Rendering of the dashboard's pages and fragments."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse

from zerotrust.net.background_work import BackgroundWork
from zerotrust.server.dashboard.shown_numbers import FILTERS
from zerotrust.server.dashboard.visits import Visit
from zerotrust.server.portal import csrf
from zerotrust.server.portal.page_templates import environment
from zerotrust.server.portal.static_files import StaticFiles
from zerotrust.server.portal.visitor import host_of

STATIC_PATH: Final = "/static/"
CONFIRM_PATH: Final = "/confirm"
NAVIGATION: Final = (
    ("/", "Now"),
    ("/agents", "Agents"),
    ("/services", "Services"),
    ("/connections", "Connections"),
    ("/requests", "Requests"),
    ("/people", "People"),
    ("/machines", "Machines, apps, links"),
    ("/audit", "Audit"),
    ("/doctor", "Doctor"),
)
"""Path and name of each section."""


class DashboardTemplates:
    """The templates of the dashboard, with what all of them use.

    Args:
        portal_static: the static files of the sign-in pages, whose style the dashboard extends.

    Attributes:
        static: the dashboard's own static files.
    """

    def __init__(self, portal_static: StaticFiles) -> None:
        self.static = StaticFiles("zerotrust.server.dashboard", STATIC_PATH)
        self._environment = environment("zerotrust.server.dashboard", "zerotrust.server.portal")
        self._environment.globals["static_url"] = portal_static.url
        self._environment.globals["own_static_url"] = self.static.url
        self._environment.filters["query"] = urlencode
        self._environment.filters.update(FILTERS)

    async def render(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a rendered fragment. Services go on meanwhile: it is rendered in slices."""
        pieces, work = [], BackgroundWork()
        await work.next_slice()
        for piece in self._environment.get_template(f"{template}.html").generate(**values):
            pieces.append(piece)
            if work.slice_over:
                await work.next_slice()
        return "".join(pieces)

    def section_of(self, path: str) -> str:
        """Return the path of the section that a path belongs to."""
        found = [section for section, _ in NAVIGATION if _is_below(path, section)]
        return max(found, key=len, default="/")

    def way_back(self, request: Request) -> str:
        """Return the path of the page that a request asks for, or of the section of a form."""
        path, query = request.url.path, request.url.query
        if request.method != "GET":
            return self.section_of(path)
        return f"{path}?{query}" if query else path

    def confirm_url(self, path: str) -> str:
        """Return the address at which the user proves their identity, to return to a path."""
        return f"{CONFIRM_PATH}?{urlencode({'to': path})}"

    def page(
        self, request: Request, visit: Visit, template: str, /, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Return a page.

        Args:
            template: file name of the template without its suffix.
        """
        text = self._environment.get_template(f"{template}.html").render(
            host=host_of(request),
            csrf=csrf.token_of(request),
            visit=visit,
            navigation=NAVIGATION,
            section=self.section_of(request.url.path),
            confirm_url=self.confirm_url(self.way_back(request)),
            **values,
        )
        return HTMLResponse(text, status)


def _is_below(path: str, section: str) -> bool:
    return path == section or (section != "/" and path.startswith(f"{section}/"))
