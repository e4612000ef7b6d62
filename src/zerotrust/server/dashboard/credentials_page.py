"""Page of machines, apps, share links and PINs: what opens services without a person."""

from collections.abc import Mapping
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from zerotrust.model import access_admin as views
from zerotrust.model.admin import NoParameters
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.listing import filled, page_of, words
from zerotrust.server.dashboard.live_page import LivePage, back_to
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.dashboard.visits import Visit
from zerotrust.server.ops.command_parameters import parsed
from zerotrust.server.portal.pairing_pages import qr_code

PATH = "/machines"


class CredentialsPage(LivePage):
    """Tokens, share links and PINs."""

    path: ClassVar = PATH
    template: ClassVar = "credentials"
    title: ClassVar = "Machines, apps, links"
    parameters: ClassVar = ("machine", "app", "link", "pin")

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["machines"] = Fragment("credentials_machines", self._machines)
        self.fragments["apps"] = Fragment("credentials_apps", self._apps)
        self.fragments["links"] = Fragment("credentials_links", self._links)
        self.fragments["pins"] = Fragment("credentials_pins", self._pins)

    def routes(self) -> list[Route]:
        return [
            *super().routes(),
            Route("/machines/create", self._create_machine, methods=["POST"]),
            Route("/machines/rotate", self._rotate_machine, methods=["POST"]),
            Route("/machines/revoke", self._revoke_machine, methods=["POST"]),
            Route("/machines/apps/create", self._create_app, methods=["POST"]),
            Route("/machines/apps/revoke", self._revoke_app, methods=["POST"]),
            Route("/machines/links/create", self._create_link, methods=["POST"]),
            Route("/machines/links/revoke", self._revoke_link, methods=["POST"]),
            Route("/machines/pins/set", self._set_pin, methods=["POST"]),
            Route("/machines/pins/clear", self._clear_pin, methods=["POST"]),
        ]

    # ---- fragments

    async def _machines(self, view: View) -> Mapping[str, Any]:
        found = await self.parts.tokens.machines(NoParameters(), "")
        return {"tokens": page_of(found.tokens, _token_key, view, cursor="machine")}

    async def _apps(self, view: View) -> Mapping[str, Any]:
        found = await self.parts.tokens.apps(views.UserFilter(), "")
        return {"tokens": page_of(found.tokens, _token_key, view, cursor="app")}

    async def _links(self, view: View) -> Mapping[str, Any]:
        found = await self.parts.links.links(NoParameters(), "")
        listed = page_of(
            found.links, lambda one: f"{one.host}{one.path} {one.id}", view, cursor="link"
        )
        return {"links": listed}

    async def _pins(self, view: View) -> Mapping[str, Any]:
        found = await self.parts.links.pins(NoParameters(), "")
        return {"pins": page_of(found.pins, lambda one: one.host, view, cursor="pin")}

    # ---- forms

    async def _create_machine(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(
            views.CreateMachineRequest,
            {**filled(form, "name", "lifetime"), "hosts": words(form.get("hosts", ""))},
        )
        made = await self.parts.tokens.create_machine(asked, visit.actor)
        return self._show(request, visit, "machine", made)

    async def _rotate_machine(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(views.RotateRequest, filled(form, "name"))
        made = await self.parts.tokens.rotate_machine(asked, visit.actor)
        return self._show(request, visit, "machine", made)

    async def _revoke_machine(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(views.AccessTokenRequest, filled(form, "name"))
        await self.parts.tokens.revoke_machine(asked, visit.actor)
        return back_to(PATH)

    async def _create_app(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(
            views.CreateAppRequest,
            {**filled(form, "user", "name", "lifetime"), "hosts": words(form.get("hosts", ""))},
        )
        made = await self.parts.tokens.create_app(asked, visit.actor)
        return self._show(request, visit, "app", made)

    async def _revoke_app(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(views.AccessTokenRequest, filled(form, "name"))
        await self.parts.tokens.revoke_app(asked, visit.actor)
        return back_to(PATH)

    async def _create_link(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(views.CreateLinkRequest, filled(form, "url", "lifetime", "uses", "pin"))
        made = await self.parts.links.create(asked, visit.actor)
        return self.parts.page(
            request, visit, "link", title="Share link", made=made, qr=qr_code(made.url)
        )

    async def _revoke_link(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        await self.parts.links.revoke(parsed(views.LinkRequest, filled(form, "id")), visit.actor)
        return back_to(PATH)

    async def _set_pin(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(views.SetPinRequest, filled(form, "host", "pin"))
        await self.parts.links.set_pin(asked, visit.actor)
        return back_to(PATH)

    async def _clear_pin(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(views.PinRequest, filled(form, "host"))
        await self.parts.links.clear_pin(asked, visit.actor)
        return back_to(PATH)

    def _show(
        self, request: Request, visit: Visit, kind: str, made: views.CreatedAccessToken
    ) -> Response:
        return self.parts.page(
            request, visit, "token", title=f"Token of the {kind} {made.name}", kind=kind, made=made
        )


def _token_key(token: views.AccessTokenView) -> str:
    return f"{token.name} {token.id}"
