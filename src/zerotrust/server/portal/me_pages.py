"""Page `/me`: the user's browsers and passkeys, with buttons to end and add them."""

import base64
from binascii import Error as Base64Error

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from zerotrust.access.gate import GateRequest, VerdictKind, pass_for
from zerotrust.access.subject import Credential
from zerotrust.errors import AccessError, UserUnknown
from zerotrust.server.portal.browser_cookies import remove_sign_in
from zerotrust.server.portal.device_names import device_name
from zerotrust.server.portal.own_session import DEVICE, actor_of, is_fresh, own_form
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import browser_of, client_of, sign_in_of

PATH = "/me"


class MePages:
    """A user's own sign-ins and passkeys."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes of the auth host."""
        return [
            Route(PATH, self._page, methods=["GET"]),
            Route(f"{PATH}/sign-ins/end", self._end_sign_in, methods=["POST"]),
            Route(f"{PATH}/passkeys/options", self._passkey_options, methods=["POST"]),
            Route(f"{PATH}/passkeys", self._add_passkey, methods=["POST"]),
            Route(f"{PATH}/passkeys/remove", self._remove_passkey, methods=["POST"]),
        ]

    async def _page(self, request: Request) -> Response:
        sign_in = sign_in_of(request)
        if sign_in is None:
            return RedirectResponse("/", 303)
        site, subject = self._site, sign_in.subject
        tokens = await site.tokens.listed("app", user_id=subject.id)
        return site.templates.page(
            request,
            "me",
            title="Your account",
            welcome="welcome" in request.query_params,
            subject=subject,
            provider=site.provider_title(subject.provider),
            current=sign_in.id,
            fresh=is_fresh(site, sign_in),
            is_device=sign_in.method == DEVICE,
            sign_ins=await site.sign_ins.of_user(subject.id),
            passkeys=await site.people.passkeys(subject.id),
            rp_id=site.access.rp_id,
            adds_passkeys="/" not in subject.name,  # else a provider has made the user
            accounts=await self._accounts(subject.name),
            apps=[row for row, _ in tokens],
            links=await site.links.listed(created_by=subject.id),
            dashboard_url=self._dashboard_url(request, sign_in),
            device_name=device_name,
            key_id=_key_text,
        )

    def _dashboard_url(self, request: Request, sign_in: Credential) -> str:
        """Return the address of the dashboard if the user may open it; else empty."""
        host = self._site.access.admin_host
        gate = None if host is None else self._site.find_gate(host)
        if host is None or gate is None:
            return ""
        client = client_of(request).encode("ascii", "replace")
        asked = GateRequest(b"GET", b"/", client=client, unix_time=self._site.clock())
        verdict = gate.judge(pass_for(sign_in, host), asked)
        return f"{self._site.origin(host)}/" if verdict.kind is VerdictKind.ALLOW else ""

    async def _accounts(self, name: str) -> list[tuple[str, str, bool]]:
        """Return name and title of each identity provider, and whether the user has an account."""
        providers = self._site.access.identity_providers
        if not providers:
            return []
        joined = (await self._site.people.user(name)).providers
        return [(key, found.title or key, key in joined) for key, found in providers.items()]

    async def _end_sign_in(self, request: Request) -> Response:
        sign_in, form = await own_form(self._site, request)
        rows = await self._site.sign_ins.of_user(sign_in.subject.id)
        row = next((row for row in rows if str(row.number) == form.get("number")), None)
        if row is None:
            raise UserUnknown("this browser is signed out already")
        await self._site.sign_ins.end(row.number, actor=actor_of(sign_in))
        response = RedirectResponse(PATH, 303)
        if str(row.number) == sign_in.id:
            remove_sign_in(response)
        return response

    async def _passkey_options(self, request: Request) -> Response:
        sign_in, _ = await own_form(self._site, request, fresh=True)
        subject = sign_in.subject
        passkeys = await self._site.people.passkeys(subject.id)
        return JSONResponse(
            self._site.ceremony().registration_options(
                user_id=subject.id,
                name=subject.name,
                shown_name=subject.shown_name,
                existing=passkeys,
            )
        )

    async def _add_passkey(self, request: Request) -> Response:
        sign_in, form = await own_form(self._site, request, fresh=True)
        passkey = await self._site.ceremony().verify_registration(
            form.get("credential", ""),
            sign_in.subject.id,
            label=device_name(browser_of(request).user_agent),
        )
        await self._site.people.add_passkey(sign_in.subject.id, passkey, actor=actor_of(sign_in))
        return JSONResponse({"next": PATH})

    async def _remove_passkey(self, request: Request) -> Response:
        sign_in, form = await own_form(self._site, request, fresh=True)
        passkeys = await self._site.people.passkeys(sign_in.subject.id)
        if len(passkeys) == 1 and not sign_in.subject.provider:
            raise AccessError("this is your only passkey; add another one first")
        await self._site.people.remove_passkey(
            sign_in.subject.id, _key_bytes(form.get("id", "")), actor=actor_of(sign_in)
        )
        return RedirectResponse(PATH, 303)


def _key_text(credential_id: bytes) -> str:
    return base64.urlsafe_b64encode(credential_id).decode("ascii")


def _key_bytes(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text.encode("ascii"))
    except (Base64Error, ValueError):
        raise UserUnknown("there is no such passkey") from None
