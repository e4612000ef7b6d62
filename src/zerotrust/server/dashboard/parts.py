"""Parts that all pages of the dashboard share: commands, rendering, who visits."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from zerotrust.access.gate_table import GateTable
from zerotrust.server.dashboard.dashboard_templates import DashboardTemplates
from zerotrust.server.dashboard.event_streams import EventStreams
from zerotrust.server.dashboard.fragments import RenderedFragments
from zerotrust.server.dashboard.revision import Revision
from zerotrust.server.dashboard.visits import Visit, checked_form, visit_of
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.link_admin import LinkAdmin
from zerotrust.server.ops.rule_admin import RuleAdmin
from zerotrust.server.ops.server_examination import ServerExamination
from zerotrust.server.ops.token_admin import TokenAdmin
from zerotrust.server.ops.user_admin import UserAdmin
from zerotrust.server.portal.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardParts:
    """Parts that all pages share.

    Attributes:
        site: configuration and clock, as the sign-in pages use them.
        gates: returns the gates in force.
        commands, users, tokens, links, rules: the commands, the same as those of the admin API.
        examination: examines the server.
    """

    site: Site
    gates: Callable[[], GateTable]
    commands: AdminCommands
    users: UserAdmin
    tokens: TokenAdmin
    links: LinkAdmin
    rules: RuleAdmin
    examination: ServerExamination
    streams: EventStreams
    templates: DashboardTemplates
    rendered: RenderedFragments
    revision: Revision

    def visit(self, request: Request) -> Visit:
        """Return the visit of a request; raises as `visits.visit_of`."""
        return visit_of(self.site, self.gates(), request)

    def form(
        self, request: Request, *, widens: bool, by_viewers: bool = False
    ) -> Awaitable[tuple[Visit, Mapping[str, str]]]:
        """Return visit and form of a request; arguments and errors as of `visits.checked_form`."""
        return checked_form(self.site, self.gates(), request, widens=widens, by_viewers=by_viewers)

    def page(
        self, request: Request, visit: Visit, template: str, /, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Return a page: the layout with the user's name and the navigation, and the template."""
        return self.templates.page(request, visit, template, status=status, **values)
