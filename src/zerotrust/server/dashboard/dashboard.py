"""The dashboard: one ASGI application for the pages of the admin host."""

import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler

from zerotrust.access.hand_over import Attempt
from zerotrust.access.return_target import safe_target
from zerotrust.errors import AccessRefused, StateError, ZeroTrustError
from zerotrust.net.json_api import CallError
from zerotrust.server.dashboard.agents_pages import AgentPage, AgentsPage
from zerotrust.server.dashboard.audit_page import AuditPage
from zerotrust.server.dashboard.capture_page import CapturePage
from zerotrust.server.dashboard.connection_page import ConnectionPage
from zerotrust.server.dashboard.connections_page import ConnectionsPage
from zerotrust.server.dashboard.credentials_page import CredentialsPage
from zerotrust.server.dashboard.dashboard_templates import CONFIRM_PATH, DashboardTemplates
from zerotrust.server.dashboard.doctor_page import DoctorPage
from zerotrust.server.dashboard.event_streams import EventStreams
from zerotrust.server.dashboard.fragments import RenderedFragments
from zerotrust.server.dashboard.live_page import FRAGMENT_FIELD
from zerotrust.server.dashboard.now_page import NowPage
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.dashboard.people_pages import PeoplePage, PersonPage
from zerotrust.server.dashboard.requests_page import RequestsPage
from zerotrust.server.dashboard.revision import Revision
from zerotrust.server.dashboard.service_page import ServicePage
from zerotrust.server.dashboard.services_page import ServicesPage
from zerotrust.server.ops.access_parts import AccessParts
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.link_admin import LinkAdmin
from zerotrust.server.ops.rule_admin import RuleAdmin
from zerotrust.server.ops.server_examination import ServerExamination
from zerotrust.server.ops.token_admin import TokenAdmin
from zerotrust.server.ops.user_admin import UserAdmin
from zerotrust.server.portal.browser_cookies import ensure_way
from zerotrust.server.portal.own_session import ProofTooOld
from zerotrust.server.portal.page_templates import Action, sentence
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import credential_of, host_of
from zerotrust.telemetry import logs

_log = logs.logger("dashboard")

PAGES: Final = (
    NowPage,
    AgentsPage,
    AgentPage,
    ServicesPage,
    ServicePage,
    ConnectionsPage,
    ConnectionPage,
    CapturePage,
    RequestsPage,
    PeoplePage,
    PersonPage,
    CredentialsPage,
    AuditPage,
    DoctorPage,
)


class Dashboard:
    """All pages of the dashboard.

    Args:
        site: the parts that the sign-in pages share.
        access: the parts that decide about access.
        commands: commands about agents and the audit log.
        streams: the event streams.
        examination: examines the server. Like the streams it outlives a dashboard, which is
            replaced when the configuration changes.

    Attributes:
        app: the application; `server.portal.portal` adds the security headers.
    """

    def __init__(
        self,
        site: Site,
        access: AccessParts,
        commands: AdminCommands,
        *,
        streams: EventStreams,
        examination: ServerExamination,
    ) -> None:
        def find() -> AccessParts:
            return access

        templates = DashboardTemplates(site.templates.static)
        self._site = site
        self.parts = DashboardParts(
            site=site,
            gates=lambda: access.gates,
            commands=commands,
            users=UserAdmin(find),
            tokens=TokenAdmin(find),
            links=LinkAdmin(find),
            rules=RuleAdmin(find),
            examination=examination,
            streams=streams,
            templates=templates,
            rendered=RenderedFragments(templates.render),
            revision=Revision(commands.last_record, clock=time.monotonic),
        )
        routes = [route for page in PAGES for route in page(self.parts).routes()]
        handlers: Mapping[Any, ExceptionHandler] = {
            ZeroTrustError: self._error,
            HTTPException: self._http_error,
            Exception: self._fault,
        }
        app = Starlette(
            routes=[
                *templates.static.routes(),
                Route(CONFIRM_PATH, self._confirm, methods=["GET"]),
                *routes,
            ],
            exception_handlers=handlers,
        )
        app.router.redirect_slashes = False
        self.app: ASGIApp = app

    async def _confirm(self, request: Request) -> Response:
        """Lead the user to the auth host for a new proof of identity, and back to a page here."""
        response = RedirectResponse("/", 303)
        attempt = Attempt.begin(
            ensure_way(request, response),
            host=host_of(request),
            to=safe_target(request.query_params.get("to", "/")),
        )
        response.headers["Location"] = f"{self._site.auth_origin}/confirm?{attempt.to_query()}"
        return response

    # ---- errors

    async def _error(self, request: Request, error: Exception) -> Response:
        text = str(error)
        match error:
            case ProofTooOld():
                return self._confirm_first(request)
            case AccessRefused():
                return self._problem(request, "That did not work", text, error.status)
            case CallError():
                return self._problem(request, "That is not possible", text, error.reply)
            case StateError():
                _log.error("the database cannot be used", reason=text)
                response = self._problem(request, "Not available just now", _TRY_LATER, 503)
                response.headers["Retry-After"] = "30"
                return response
            case ZeroTrustError() if error.status < 500:
                return self._problem(request, "That is not possible", text, error.status)
            case _:
                raise error

    async def _http_error(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 404:
            return self._problem(request, "There is no such page", "Check the address.", 404)
        response = self._problem(request, "That did not work", "Open the page again.", status)
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)
        return response

    async def _fault(self, request: Request, error: Exception) -> Response:
        return self._problem(request, "Something went wrong", _OUR_FAULT, 500)

    def _confirm_first(self, request: Request) -> Response:
        templates = self.parts.templates
        to = templates.confirm_url(templates.way_back(request))
        action = Action("Confirm that it is you", to)
        text = _CONFIRM_TO_READ if request.method == "GET" else _CONFIRM_TO_GIVE
        return self._problem(request, "One more step", text, 403, action)

    def _problem(
        self, request: Request, title: str, text: str, status: int, action: Action | None = None
    ) -> Response:
        if FRAGMENT_FIELD in request.headers or credential_of(request) is None:
            return JSONResponse({"error": sentence(text)}, status)
        back = self.parts.templates.section_of(request.url.path)
        return self._site.templates.message(
            request,
            title,
            sentence(text),
            status=status,
            actions=[action or Action("Back to the dashboard", back)],
        )


_CONFIRM_TO_READ: Final = "This shows what others have sent, so first confirm that it is you."
_CONFIRM_TO_GIVE: Final = (
    "This gives somebody a right, so first confirm that it is you. Then send it again."
)
_TRY_LATER: Final = "The server cannot read its database. Try again in a minute."
_OUR_FAULT: Final = "The server's log has the details. Try again in a minute."
