"""Base of the dashboard's pages: one path with the page, its fragments, and its event stream.

The field `Accept` asks for the event stream (browsers send it by themselves), the field
`X-Fragment` for one fragment. Without scripts a reload shows what has changed.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from zerotrust.server.dashboard.fragments import MAX_VALUE, Fragment, View
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.dashboard.visits import Visit, may_look
from zerotrust.server.portal.visitor import client_of

FRAGMENT_FIELD: Final = "x-fragment"
PARAMETERS: Final = ("host", "user", "agent", "before", "after")
"""Names in the queries of most pages: filters and cursors of lists."""


class LivePage:
    """A page with fragments.

    A subclass sets `path`, `template` and `title`, fills `fragments`, and may return more values
    for its template from `values`. The template extends `layout.html`, and places a fragment with
    `{{ fragments.NAME }}`.

    Attributes:
        path: path of the page, as a route of Starlette.
        template: name of its template, without the suffix.
        title: heading of the page.
        parameters: names in the query that decide about the contents. A page ignores all others,
            because a rendered fragment is kept for each query.
        fragments: the fragments by name.
    """

    path: ClassVar[str]
    template: ClassVar[str]
    title: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]] = PARAMETERS

    def __init__(self, parts: DashboardParts) -> None:
        self.parts = parts
        self.fragments: dict[str, Fragment] = {}
        if parts.commands.missing is not None:
            self.fragments["workers"] = Fragment(
                "workers", self._workers, lambda _view: parts.commands.missing, follows_audit=False
            )

    def routes(self) -> list[Route]:
        """Return the routes of the page; subclasses add those of their forms."""
        return [Route(self.path, self._get, methods=["GET"])]

    async def values(self, view: View, visit: Visit) -> Mapping[str, Any]:
        """Return values for the template, beside `fragments`."""
        return {}

    def heading(self, view: View) -> str:
        """Return the heading of the page."""
        return self.title

    async def _get(self, request: Request) -> Response:
        visit = self.parts.visit(request)
        view = View(request.url.path, self._query(request), may_change=visit.may_change)
        if "text/event-stream" in request.headers.get("accept", ""):
            return self._stream(request, visit, view)
        name = request.headers.get(FRAGMENT_FIELD)
        if name is not None:
            return await self._one_fragment(name, view)
        # The user may have changed something a moment ago.
        revision = await self._revision(now=True)
        rendered = {
            name: await self.parts.rendered.html(name, fragment, view, revision)
            for name, fragment in self.fragments.items()
        }
        return self.parts.page(
            request,
            visit,
            self.template,
            title=self.heading(view),
            view=view,
            fragments=rendered,
            **await self.values(view, visit),
        )

    def _query(self, request: Request) -> tuple[tuple[str, str], ...]:
        """Return the first value of each parameter that the query has, cut to its length."""
        given = request.query_params
        return tuple(
            (name, given.getlist(name)[0][:MAX_VALUE]) for name in self.parameters if name in given
        )

    async def _one_fragment(self, name: str, view: View) -> Response:
        fragment = self.fragments.get(name)
        if fragment is None:
            raise HTTPException(404)
        revision = await self._revision()
        return HTMLResponse(await self.parts.rendered.html(name, fragment, view, revision))

    def _stream(self, request: Request, visit: Visit, view: View) -> Response:
        client = client_of(request)
        return self.parts.streams.response(
            partial(self._versions, view), may_go_on=lambda: self.may_go_on(visit, client)
        )

    def may_go_on(self, visit: Visit, client: str) -> bool:
        """Return True while a user may still have the event stream of this page."""
        return may_look(self.parts.gates(), visit.user, client=client, now=self.parts.site.clock())

    async def _versions(self, view: View) -> dict[str, str]:
        revision = await self._revision()
        return {
            name: fragment.version_text(view, revision) for name, fragment in self.fragments.items()
        }

    async def _revision(self, *, now: bool = False) -> int:
        """Return the number of the last record of the audit log; other workers tell their news."""
        await self.parts.commands.refresh()
        return await self.parts.revision.read(now=now)

    async def _workers(self, _view: View) -> Mapping[str, Any]:
        return {"missing": self.parts.commands.missing}


def back_to(path: str) -> Response:
    """Return the answer to a form that was carried out: the browser shows a page."""
    return RedirectResponse(path, 303)
