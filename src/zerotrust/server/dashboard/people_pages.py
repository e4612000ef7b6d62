"""Pages of people: users and groups, and one user with sign-ins and apps."""

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from zerotrust.errors import UserUnknown
from zerotrust.model import access_admin as views
from zerotrust.model.admin import NoParameters
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.listing import filled, page_of, words
from zerotrust.server.dashboard.live_page import LivePage, back_to
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.dashboard.visits import Visit
from zerotrust.server.ops.command_parameters import parsed
from zerotrust.server.portal.device_names import device_name
from zerotrust.server.portal.pairing_pages import qr_code

PATH = "/people"
SHOW_PATH = "/people/show"


class PeoplePage(LivePage):
    """All users, and their groups."""

    path: ClassVar = PATH
    template: ClassVar = "people"
    title: ClassVar = "People"

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["users"] = Fragment("people_list", self._users)
        self.fragments["groups"] = Fragment("people_groups", self._groups)

    def routes(self) -> list[Route]:
        return [*super().routes(), Route("/people/invite", self._invite, methods=["POST"])]

    async def _users(self, view: View) -> Mapping[str, Any]:
        found = await self.parts.users.users(NoParameters(), "")
        return {"users": page_of(found.users, lambda user: user.user, view)}

    async def _groups(self, _view: View) -> Mapping[str, Any]:
        return {"groups": (await self.parts.users.groups(NoParameters(), "")).groups}

    async def _invite(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(
            views.InviteRequest,
            {**filled(form, "user", "email"), "groups": words(form.get("groups", ""))},
        )
        made = await self.parts.users.invite(asked, visit.actor)
        return self.parts.page(
            request,
            visit,
            "invitation",
            title=f"Invitation for {made.user}",
            made=made,
            qr=qr_code(made.url),
        )


class PersonPage(LivePage):
    """One user: groups, sign-ins, apps."""

    path: ClassVar = SHOW_PATH
    template: ClassVar = "person"
    title: ClassVar = "Person"

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["person"] = Fragment("person_details", self._details)

    def routes(self) -> list[Route]:
        return [
            *super().routes(),
            Route("/people/disable", self._disable, methods=["POST"]),
            Route("/people/enable", self._enable, methods=["POST"]),
            Route("/people/remove", self._remove, methods=["POST"]),
            Route("/people/groups/add", self._add_member, methods=["POST"]),
            Route("/people/groups/remove", self._remove_member, methods=["POST"]),
            Route("/people/sign-ins/end", self._end_sign_ins, methods=["POST"]),
        ]

    def heading(self, view: View) -> str:
        return view.get("user") or self.title

    async def values(self, view: View, visit: Visit) -> Mapping[str, Any]:
        return {"user_name": view.get("user")}

    async def _details(self, view: View) -> Mapping[str, Any]:
        name = view.get("user")
        if not name:
            raise UserUnknown("which user? Choose one from the list")
        found = await self.parts.users.show(views.UserRequest(user=name), "")
        return {"found": found, "device_name": device_name}

    async def _disable(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(views.UserRequest, filled(form, "user"))
        await self.parts.users.disable(asked, visit.actor)
        return back_to(page_of_person(asked.user))

    async def _enable(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(views.UserRequest, filled(form, "user"))
        await self.parts.users.enable(asked, visit.actor)
        return back_to(page_of_person(asked.user))

    async def _remove(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        await self.parts.users.remove(parsed(views.UserRequest, filled(form, "user")), visit.actor)
        return back_to(PATH)

    async def _add_member(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(views.MemberRequest, filled(form, "user", "group"))
        await self.parts.users.add_member(asked, visit.actor)
        return back_to(page_of_person(asked.user))

    async def _remove_member(self, request: Request) -> Response:
        user = request.query_params.get("user", "")
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(views.MemberRequest, {"user": user, **filled(form, "group")})
        if self._is_denied(asked.group):
            visit.need_proof()
        await self.parts.users.remove_member(asked, visit.actor)
        return back_to(page_of_person(asked.user))

    def _is_denied(self, group: str) -> bool:
        """Return True if a rule refuses a group: who leaves it gets a right."""
        return any(
            group in (condition.group or ())
            for rule in self.parts.site.access.rules
            for condition in rule.deny
        )

    async def _end_sign_ins(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(views.EndSessionRequest, filled(form, "number", "user"))
        await self.parts.users.end_sessions(asked, visit.actor)
        user = asked.user or request.query_params.get("user", "")
        return back_to(page_of_person(user))


def page_of_person(user: str) -> str:
    """Return the address of the page of a user."""
    return f"{SHOW_PATH}?{urlencode({'user': user})}"
