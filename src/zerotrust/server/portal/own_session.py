"""A user's own pages: who is signed in, forms with a token, and proofs that are recent enough."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from zerotrust.access.subject import Credential
from zerotrust.errors import AccessRefused
from zerotrust.server.portal import csrf
from zerotrust.server.portal.forms import read_form
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import sign_in_of

FRESH_SECONDS: Final = 900
"""Longest time since the last proof of identity, for what gives access to others or for longer."""

DEVICE: Final = "device"
"""Method of sign-ins that were paired with a code."""


class ProofTooOld(AccessRefused):
    """The user has to prove their identity again before this action."""


def user_of(request: Request) -> Credential:
    """Return the sign-in of the user; raises AccessRefused without one."""
    sign_in = sign_in_of(request)
    if sign_in is None:
        raise AccessRefused("you are signed out; sign in again")
    return sign_in


def is_fresh(site: Site, sign_in: Credential) -> bool:
    """Return True if the user has proven their identity in the last 15 minutes.

    A device that was paired with a code never has: the code may have been passed on.
    """
    return sign_in.method != DEVICE and site.clock() - sign_in.proven_at < FRESH_SECONDS


async def own_form(
    site: Site, request: Request, *, fresh: bool = False
) -> tuple[Credential, Mapping[str, str]]:
    """Return the sign-in and the form that its user has sent.

    Args:
        fresh: the action needs a recent proof of identity.

    Raises:
        AccessRefused: signed out, or another page has sent the form.
        ProofTooOld: there is no recent proof.
    """
    form = await read_form(request)
    sign_in = user_of(request)
    csrf.check_token(request, form, origin=site.auth_origin)
    if fresh and not is_fresh(site, sign_in):
        raise ProofTooOld("for this, first confirm that it is you")
    return sign_in, form


def actor_of(sign_in: Credential) -> str:
    """Return the actor for the audit log."""
    return f"user {sign_in.subject.name}"
