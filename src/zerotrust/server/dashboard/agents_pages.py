"""Pages of agents: the list with join tokens, and one agent with all that is known of it."""

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from zerotrust.errors import NotFound
from zerotrust.model import admin
from zerotrust.server.dashboard.fragments import Fragment, View
from zerotrust.server.dashboard.hour_graphs import drawn, round_trip_graph
from zerotrust.server.dashboard.listing import filled, page_of, words
from zerotrust.server.dashboard.live_page import LivePage, back_to
from zerotrust.server.dashboard.parts import DashboardParts
from zerotrust.server.ops.command_parameters import parsed
from zerotrust.server.portal.pairing_pages import qr_code

PATH = "/agents"
SHOW_PATH = "/agents/show"


class AgentsPage(LivePage):
    """All agents, and the join tokens that are open."""

    path: ClassVar = PATH
    template: ClassVar = "agents"
    title: ClassVar = "Agents"

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["agents"] = Fragment("agents_list", self._agents, self._live)
        self.fragments["tokens"] = Fragment("agents_tokens", self._tokens)

    def routes(self) -> list[Route]:
        return [
            *super().routes(),
            Route("/agents/tokens/create", self._create_token, methods=["POST"]),
            Route("/agents/tokens/cancel", self._cancel_token, methods=["POST"]),
        ]

    def _live(self, _view: View) -> Hashable:
        return self.parts.commands.live_numbers()

    async def _agents(self, view: View) -> Mapping[str, Any]:
        found = await self.parts.commands.agents(admin.NoParameters(), "")
        return {"agents": page_of(found.agents, lambda agent: agent.id, view)}

    async def _tokens(self, _view: View) -> Mapping[str, Any]:
        found = await self.parts.commands.tokens(admin.NoParameters(), "")
        return {"tokens": [token for token in found.tokens if token.state == "open"][:100]}

    async def _create_token(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(
            admin.CreateTokenRequest,
            {
                **filled(form, "agent", "expires", "server"),
                "hosts": words(form.get("hosts", "")),
            },
        )
        made = await self.parts.commands.create_token(asked, visit.actor)
        return self.parts.page(
            request,
            visit,
            "join_token",
            title=f"Join token for {made.agent}",
            made=made,
            qr=qr_code(made.line),
        )

    async def _cancel_token(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(admin.TokenRequest, filled(form, "number"))
        await self.parts.commands.cancel_token(asked, visit.actor)
        return back_to(PATH)


class AgentPage(LivePage):
    """One agent: its sessions, grants, certificates, join tokens and revocations."""

    path: ClassVar = SHOW_PATH
    template: ClassVar = "agent"
    title: ClassVar = "Agent"

    def __init__(self, parts: DashboardParts) -> None:
        super().__init__(parts)
        self.fragments["agent"] = Fragment(
            "agent_details", self._details, lambda _view: parts.commands.live_numbers()
        )
        self.fragments["link"] = Fragment(
            "agent_link",
            self._link,
            lambda _view: parts.commands.traffic.slot,
            follows_audit=False,
        )

    def routes(self) -> list[Route]:
        return [
            *super().routes(),
            Route("/agents/grants/add", self._add_grant, methods=["POST"]),
            Route("/agents/grants/remove", self._remove_grant, methods=["POST"]),
            Route("/agents/revoke", self._revoke, methods=["POST"]),
            Route("/agents/restore", self._restore, methods=["POST"]),
        ]

    def heading(self, view: View) -> str:
        return f"Agent {view.get('agent')}"

    async def _details(self, view: View) -> Mapping[str, Any]:
        agent = view.get("agent")
        if not agent:
            raise NotFound("which agent? Choose one from the list")
        asked = admin.AgentRequest(agent=agent)
        return {"found": await self.parts.commands.agent(asked, "")}

    async def _link(self, view: View) -> Mapping[str, Any]:
        seconds = await self.parts.commands.traffic.round_trips(view.get("agent"))
        return await drawn([round_trip_graph(seconds, "link")])

    async def _add_grant(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(admin.GrantRequest, filled(form, "agent", "host"))
        await self.parts.commands.add_grant(asked, visit.actor)
        return back_to(page_of_agent(asked.agent))

    async def _remove_grant(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        host = form.get("host", "")
        asked = parsed(
            admin.GrantRequest, {"agent": request.query_params.get("agent", ""), "host": host}
        )
        await self.parts.commands.remove_grant(asked, visit.actor)
        return back_to(page_of_agent(asked.agent))

    async def _revoke(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=False)
        asked = parsed(admin.RevokeRequest, filled(form, "agent", "serial", "reason"))
        await self.parts.commands.revoke(asked, visit.actor)
        return back_to(page_of_agent(asked.agent))

    async def _restore(self, request: Request) -> Response:
        visit, form = await self.parts.form(request, widens=True)
        asked = parsed(
            admin.RestoreRequest,
            {**filled(form, "agent", "serial"), "reissue": form.get("reissue") == "1"},
        )
        await self.parts.commands.restore(asked, visit.actor)
        return back_to(page_of_agent(asked.agent))


def page_of_agent(agent: str) -> str:
    """Return the address of the page of an agent."""
    return f"{SHOW_PATH}?{urlencode({'agent': agent})}"
