"""Visits of the dashboard: who looks, what they may do, and forms that they send."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from zerotrust.access.gate import VerdictKind
from zerotrust.access.gate_request import GateRequest
from zerotrust.access.gate_table import GateTable
from zerotrust.access.subject import Credential, SubjectKind
from zerotrust.errors import AccessRefused, ForwardError
from zerotrust.server.portal import csrf
from zerotrust.server.portal.forms import read_form
from zerotrust.server.portal.own_session import ProofTooOld, is_fresh
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import client_of, credential_of, host_of


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a user whom the gate of the admin host has let in.

    Attributes:
        may_change: the user is one of `admins`, not of `viewers` alone.
        fresh: the user has proven their identity in the last 15 minutes.
    """

    user: Credential
    may_change: bool
    fresh: bool

    @property
    def name(self) -> str:
        """Return the name that people know the user by."""
        return self.user.subject.shown_name or self.user.subject.name

    def need_proof(self) -> None:
        """Refuse what gives somebody a right, or shows what others have said; raises ProofTooOld
        without a recent proof."""
        if not self.fresh:
            raise ProofTooOld("for this, first confirm that it is you")

    @property
    def actor(self) -> str:
        """Return the actor for the audit log."""
        return f"user {self.user.subject.name}"


def visit_of(site: Site, gates: GateTable, request: Request) -> Visit:
    """Return the visit of a request.

    Raises:
        AccessRefused: no user has signed in, or may not look any more, or the admin host has
            another name by now.
    """
    user = credential_of(request)
    if user is None or user.sign_in is None or user.subject.kind is not SubjectKind.USER:
        raise AccessRefused("the dashboard is for users who have signed in here, in a browser")
    if gates.admins is None or gates.admins.host != host_of(request):
        raise AccessRefused("the dashboard has moved")
    client, now = client_of(request), site.clock()
    # The gate may have judged another credential of the request, such as a token.
    if not may_look(gates, user, client=client, now=now):
        raise AccessRefused("you may not look at the dashboard")
    return Visit(
        user,
        may_change=_admits(gates, "admins", user, client, now),
        fresh=is_fresh(site, user.sign_in),
    )


def may_look(gates: GateTable, user: Credential, *, client: str, now: float) -> bool:
    """Return True if a user may still look at the dashboard, for streams that stay open."""
    return not user.end_reason(now) and _admits(gates, "all", user, client, now)


async def checked_form(
    site: Site, gates: GateTable, request: Request, *, widens: bool, by_viewers: bool
) -> tuple[Visit, Mapping[str, str]]:
    """Return the visit, and the form that its user has sent from a page of the dashboard.

    Args:
        widens: the action gives somebody a right, so it needs a recent proof of identity. One that
            takes a right away needs none.
        by_viewers: those who may only look may send it, too.

    Raises:
        AccessRefused: the user may only look, or another page has sent the form.
        ProofTooOld: there is no recent proof.
    """
    form = await read_form(request)
    visit = visit_of(site, gates, request)
    csrf.check_token(request, form, origin=site.origin(host_of(request)))
    if not visit.may_change and not by_viewers:
        raise AccessRefused("you may look at the dashboard, not change anything")
    if widens:
        visit.need_proof()
    return visit, form


def _admits(gates: GateTable, who: str, user: Credential, client: str, now: float) -> bool:
    gate = gates.admins
    if gate is not None and who == "all":
        gate = gates.find(gate.host)
    if gate is None or not gate.counts(user):
        return False
    asked = GateRequest(b"GET", b"/", client=client.encode("ascii", "replace"), unix_time=now)
    try:
        return gate.judge(user, asked).kind is VerdictKind.ALLOW
    except ForwardError:
        return False
