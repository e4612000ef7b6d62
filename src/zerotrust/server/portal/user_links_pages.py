"""Parts of `/me` that let others in: apps, devices and share links of a user."""

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from zerotrust.access.gate import GateRequest, VerdictKind, pass_for
from zerotrust.access.return_target import safe_target
from zerotrust.access.subject import Credential
from zerotrust.errors import AccessError, AccessRefused, ForwardError, NameTaken, UserUnknown
from zerotrust.model.base import normalise_host, parse_duration
from zerotrust.server.portal.me_pages import PATH
from zerotrust.server.portal.own_session import actor_of, own_form
from zerotrust.server.portal.pairing_pages import pairing_url, qr_code, shown_code
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import client_of

MIN_LINK_SECONDS: Final = 3600
MAX_LINK_SECONDS: Final = 30 * 86400
"""Longest lifetime of a share link that a user makes."""
MAX_NAME: Final = 64


class UserLinksPages:
    """Creation and end of a user's app tokens, pairing codes and share links."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes of the auth host."""
        return [
            Route(f"{PATH}/apps", self._create_app, methods=["POST"]),
            Route(f"{PATH}/apps/revoke", self._revoke_app, methods=["POST"]),
            Route(f"{PATH}/devices", self._create_pairing, methods=["POST"]),
            Route(f"{PATH}/links", self._create_link, methods=["POST"]),
            Route(f"{PATH}/links/revoke", self._revoke_link, methods=["POST"]),
        ]

    async def _create_app(self, request: Request) -> Response:
        sign_in, form = await own_form(self._site, request, fresh=True)
        name = form.get("name", "").strip()
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise AccessError(f"give the app a name of 1 to {MAX_NAME} characters")
        hosts = [_host(text) for text in form.get("hosts", "").replace(",", " ").split()]
        user, actor = sign_in.subject.name, actor_of(sign_in)
        try:
            issued = await self._site.tokens.create_app(
                name, user=user, hosts=hosts, lifetime=None, actor=actor
            )
        except NameTaken:
            # The app may be another user's.
            raise NameTaken(
                f'an app has the name "{name}" already; choose another name, or revoke your app of'
                " this name first"
            ) from None
        return self._site.templates.page(
            request, "app_token", title="Token of the app", name=issued.name, secret=issued.secret
        )

    async def _revoke_app(self, request: Request) -> Response:
        sign_in, form = await own_form(self._site, request)
        own = await self._site.tokens.listed("app", user_id=sign_in.subject.id)
        name = form.get("name", "")
        if name not in {row.name for row, _ in own}:
            raise UserUnknown("this app is gone already")
        await self._site.tokens.revoke(name, kind="app", actor=actor_of(sign_in))
        return RedirectResponse(PATH, 303)

    async def _create_pairing(self, request: Request) -> Response:
        sign_in, _ = await own_form(self._site, request, fresh=True)
        code, expires_at = await self._site.sign_ins.create_pairing(sign_in)
        shown = shown_code(code)
        return self._site.templates.page(
            request,
            "pairing_code",
            title="Code for a device",
            code=shown,
            url=f"{self._site.auth_origin}/pair",
            qr=qr_code(pairing_url(self._site.auth_origin, shown)),
            expires_at=expires_at,
        )

    async def _create_link(self, request: Request) -> Response:
        sign_in, form = await own_form(self._site, request, fresh=True)
        url = self._shareable(request, sign_in, form.get("url", "").strip())
        issued = await self._site.links.create(
            url,
            lifetime=_seconds(form.get("lifetime", "")),
            uses=_uses(form.get("uses", "").strip()),
            pin=form.get("pin", "").strip() or None,
            methods=["GET", "HEAD"],
            created_by=sign_in.subject.id,
            actor=actor_of(sign_in),
        )
        parts = urlsplit(issued.url)
        link = f"{self._site.origin(parts.hostname or '')}{parts.path}#{parts.fragment}"
        return self._site.templates.page(
            request,
            "share_link",
            title="Share link",
            url=link,
            shared=url,
            qr=qr_code(link),
            expires_at=issued.expires_at,
        )

    async def _revoke_link(self, request: Request) -> Response:
        sign_in, form = await own_form(self._site, request)
        own = await self._site.links.listed(created_by=sign_in.subject.id)
        link_id = form.get("id", "")
        if link_id not in {row.id for row in own}:
            raise UserUnknown("this link is gone already")
        await self._site.links.revoke(link_id, actor=actor_of(sign_in))
        return RedirectResponse(PATH, 303)

    def _shareable(self, request: Request, sign_in: Credential, text: str) -> str:
        """Return the URL that a user may share: one that they may open, of a rule with `links`.

        Raises:
            AccessError: it is no URL of a service.
            AccessRefused: its rule allows no share links, or not to this user.
        """
        try:
            parts = urlsplit(text)
            host = normalise_host(parts.netloc)
        except ValueError:
            raise AccessError("this is no address: copy it from the browser") from None
        path = parts.path or "/"
        gate = self._site.gate_of(host) if parts.scheme == "https" else None
        if gate is None or safe_target(path) != path:
            raise AccessError("there is no service with sign-in at this address")
        asked = GateRequest(
            b"GET",
            path.encode("ascii"),
            client=client_of(request).encode("ascii", "replace"),
            unix_time=self._site.clock(),
        )
        try:
            verdict = gate.judge(pass_for(sign_in, host), asked)
        except ForwardError:
            raise AccessError("this address is ambiguous: remove duplicate slashes") from None
        if not gate.rule.links or verdict.kind is not VerdictKind.ALLOW:
            raise AccessRefused(f"you may not share pages of {host}")
        return f"{self._site.origin(host)}{path}"


def _host(text: str) -> str:
    try:
        return normalise_host(text)
    except ValueError:
        raise AccessError(f'"{text[:80]}" is no host name') from None


def _seconds(lifetime: str) -> float:
    try:
        seconds = parse_duration(lifetime)
    except ValueError:
        seconds = 0.0
    if not MIN_LINK_SECONDS <= seconds <= MAX_LINK_SECONDS:
        raise AccessError("a share link is good for 1 hour to 30 days")
    return seconds


def _uses(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) <= 1000:
        raise AccessError("a share link is good for 1 to 1000 uses, or without a limit")
    return int(text[:6])
