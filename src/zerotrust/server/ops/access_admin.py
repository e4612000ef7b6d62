"""Admin API about people, sessions, tokens and links (docs/reference/admin.md).

Without the section `access` in the server's file, each endpoint answers how to begin.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from zerotrust.model import access_admin as views
from zerotrust.model.admin import NoParameters
from zerotrust.server.ops.access_parts import FindParts
from zerotrust.server.ops.link_admin import LinkAdmin
from zerotrust.server.ops.rule_admin import RuleAdmin
from zerotrust.server.ops.token_admin import TokenAdmin
from zerotrust.server.ops.user_admin import UserAdmin

AnswerAccess = Callable[[Any, str], Awaitable[BaseModel]]
Endpoints = dict[tuple[str, str], tuple[type[BaseModel], AnswerAccess]]


def access_endpoints(find: FindParts) -> Endpoints:
    """Return the request model and the function of each method and path.

    Args:
        find: returns the parts; None while the server's file has no section `access`.
    """
    users, tokens, links, rules = (
        UserAdmin(find),
        TokenAdmin(find),
        LinkAdmin(find),
        RuleAdmin(find),
    )
    return {
        ("GET", "/v1/users"): (NoParameters, users.users),
        ("GET", "/v1/users/show"): (views.UserRequest, users.show),
        ("POST", "/v1/users/invite"): (views.InviteRequest, users.invite),
        ("POST", "/v1/users/disable"): (views.UserRequest, users.disable),
        ("POST", "/v1/users/enable"): (views.UserRequest, users.enable),
        ("POST", "/v1/users/remove"): (views.UserRequest, users.remove),
        ("GET", "/v1/groups"): (NoParameters, users.groups),
        ("POST", "/v1/groups/add"): (views.MemberRequest, users.add_member),
        ("POST", "/v1/groups/remove"): (views.MemberRequest, users.remove_member),
        ("GET", "/v1/sessions"): (views.UserFilter, users.sessions),
        ("POST", "/v1/sessions/end"): (views.EndSessionRequest, users.end_sessions),
        ("GET", "/v1/machines"): (NoParameters, tokens.machines),
        ("POST", "/v1/machines/create"): (views.CreateMachineRequest, tokens.create_machine),
        ("POST", "/v1/machines/revoke"): (views.AccessTokenRequest, tokens.revoke_machine),
        ("POST", "/v1/machines/rotate"): (views.RotateRequest, tokens.rotate_machine),
        ("GET", "/v1/apps"): (views.UserFilter, tokens.apps),
        ("POST", "/v1/apps/create"): (views.CreateAppRequest, tokens.create_app),
        ("POST", "/v1/apps/revoke"): (views.AccessTokenRequest, tokens.revoke_app),
        ("POST", "/v1/apps/rotate"): (views.RotateRequest, tokens.rotate_app),
        ("GET", "/v1/links"): (NoParameters, links.links),
        ("POST", "/v1/links/create"): (views.CreateLinkRequest, links.create),
        ("POST", "/v1/links/revoke"): (views.LinkRequest, links.revoke),
        ("GET", "/v1/pins"): (NoParameters, links.pins),
        ("POST", "/v1/pins/set"): (views.SetPinRequest, links.set_pin),
        ("POST", "/v1/pins/clear"): (views.PinRequest, links.clear_pin),
        ("GET", "/v1/access"): (NoParameters, rules.hosts),
        ("POST", "/v1/access/explain"): (views.ExplainRequest, rules.explain),
    }
