"""The portal with a real store, and browsers that keep cookies; no sockets.

Where the ingress gives a request to the portal or to a service, `PortalServer` does the same in its
place: it finds the cookie, asks the gate, and starts a sign-in for a page load without a pass.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.support.authenticator import Authenticator
from tests.support.people import Store, Stores
from zerotrust.access.gate import Gate, GateRequest, VerdictKind
from zerotrust.access.gate_table import GateTable
from zerotrust.access.hand_over import GO_PATH, Attempt, new_way
from zerotrust.access.secret_format import digest_of
from zerotrust.access.subject import Credential, CredentialKind
from zerotrust.server.access.identity_keys import IdentityKeys
from zerotrust.server.portal.browser_cookies import COOKIE, cookie_of, set_way, way_of
from zerotrust.server.portal.portal import Portal
from zerotrust.server.portal.site import Site

AUTH = "auth.example.com"
PHOTOS = "photos.example.com"


class PortalServer:
    """A portal, and the part of the ingress that stands before it.

    Attributes:
        site: the parts that the pages share.
    """

    def __init__(self, store: Store, keys: IdentityKeys, *, https_port: int = 443) -> None:
        self.store = store
        self.gates = GateTable(store.state.access)
        self.published: set[str] = set()
        self.site = Site(
            state=store.state,
            find_gate=self.find_gate,
            is_published=lambda host: host in self.published,
            people=store.people,
            sign_ins=store.sign_ins,
            tokens=store.tokens,
            links=store.links,
            keys=keys,
            https_port=https_port,
            clock=store.clock,
        )
        self.portal = self.build()

    def build(
        self, *, auth_routes: Sequence[Route] = (), service_routes: Sequence[Route] = ()
    ) -> Portal:
        """Return a portal with more routes."""
        return Portal(self.site, auth_routes=auth_routes, service_routes=service_routes)

    def find_gate(self, host: str) -> Gate | None:
        return self.gates.find(host)

    @property
    def auth_host(self) -> str:
        return self.site.access.auth_host

    def app(self) -> ASGIApp:
        """Return the application: portal, gate and services."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            request = Request(scope, receive)
            state = scope["state"]
            state["credential"] = credential = self._credential(request, state["host"])
            answer: ASGIApp = self.portal.app
            if state["host"] != self.auth_host and not scope["path"].startswith("/.0trust/"):
                answer = self._service(request, credential)
            await answer(scope, receive, send)

        return app

    def _credential(self, request: Request, host: str) -> Credential | None:
        value = cookie_of(request, COOKIE)
        found = None if value is None else self.store.state.index.find(digest_of(value))
        if found is None or found.end_reason(self.store.clock()):
            return None
        wanted = CredentialKind.SIGN_IN if host == self.auth_host else CredentialKind.PASS
        return found if found.kind is wanted and found.host in ("", host) else None

    def _service(self, request: Request, credential: Credential | None) -> ASGIApp:
        host, target = request.scope["state"]["host"], request.url.path
        if request.url.query:
            target += f"?{request.url.query}"
        gate = self.gates.find(host)
        if gate is None:
            return Response(f"public {host}{target}")
        asked = GateRequest(
            request.method.encode(), target.encode(), client=b"", unix_time=self.store.clock()
        )
        kind = gate.judge(credential, asked).kind
        if kind is VerdictKind.ALLOW and host == self.site.access.admin_host:
            return self.portal.app
        if kind is VerdictKind.ALLOW:
            name = "" if credential is None else credential.subject.name
            return Response(f"{host}{target} for {name}")
        if kind is VerdictKind.DENY:
            return Response("denied", 403)
        way = way_of(request) or new_way()
        attempt = Attempt.begin(way, host=host, to=target)
        response = RedirectResponse(
            f"{self.site.auth_origin}{GO_PATH}?{attempt.to_query()}", status_code=302
        )
        set_way(response, way)
        return response


class _Parsed(HTMLParser):
    """Links, forms, buttons and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.forms: list[dict[str, Any]] = []
        self.buttons: list[dict[str, str]] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._link = ""
        self._label = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attributes}
        self.tags.append((tag, found))
        if tag == "a":
            self._link, self._label = found.get("href", ""), ""
        elif tag == "form":
            self.forms.append({"action": found["action"], "fields": {}})
        elif tag == "input" and self.forms and "name" in found:
            self.forms[-1]["fields"][found["name"]] = found.get("value", "")
        elif tag == "button":
            self.buttons.append(found)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self.links[" ".join(self._label.split())] = self._link

    def handle_data(self, data: str) -> None:
        self.text += data
        self._label += data


@dataclass
class Reply:
    """A response."""

    url: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    hops: list[str] = field(default_factory=list)

    def header(self, name: str) -> str:
        """Return the value of a header field; empty without one."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def page(self) -> _Parsed:
        return _Parsed(self.text)


class Browser:
    """A browser: cookies for each host, redirects, forms.

    Attributes:
        keeps_cookies: False for one that blocks them.
        faults: errors that left the application.
    """

    def __init__(self, server: PortalServer, *, client: str = "203.0.113.5") -> None:
        self.server = server
        self.client = client
        self.cookies: dict[str, dict[str, str]] = {}
        self.keeps_cookies = True
        self.faults: list[Exception] = []
        self.agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

    async def get(self, url: str, *, follow: bool = True, **headers: str) -> Reply:
        """Open a page."""
        reply = await self.request("GET", url, headers={"sec-fetch-site": "none", **headers})
        return await self._followed(reply) if follow else reply

    async def post(
        self,
        url: str,
        form: dict[str, str],
        *,
        follow: bool = True,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send a form from a page of the same origin."""
        reply = await self.request(
            "POST",
            url,
            headers={
                "content-type": "application/x-www-form-urlencoded",
                "sec-fetch-site": "same-origin",
                **(headers or {}),
            },
            body=urlencode(form).encode(),
        )
        return await self._followed(reply) if follow else reply

    async def script(self, url: str, form: dict[str, str]) -> Reply:
        """Send a form as the script of a page does."""
        return await self.post(url, form, follow=False, headers={"accept": "application/json"})

    async def submit(self, reply: Reply, action: str, **fields: str) -> Reply:
        """Send a form of a page."""
        form = next(form for form in reply.page.forms if form["action"] == action)
        return await self.post(urljoin(reply.url, action), {**form["fields"], **fields})

    async def _followed(self, reply: Reply) -> Reply:
        hops = [reply.url]
        while 300 <= reply.status < 400:
            assert len(hops) < 20, hops
            url = urljoin(reply.url, reply.header("location"))
            reply = await self.request("GET", url, headers={"sec-fetch-site": "none"})
            hops.append(url)
        reply.hops = hops
        return reply

    async def request(
        self, method: str, url: str, *, headers: dict[str, str], body: bytes = b""
    ) -> Reply:
        """Send one request."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        sent = {"host": parts.netloc, "user-agent": self.agent, **headers}
        if jar := self.cookies.get(host):
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": parts.path or "/",
            "raw_path": (parts.path or "/").encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [
                (key.encode("latin-1"), value.encode("latin-1")) for key, value in sent.items()
            ],
            "server": (host, 443),
            "client": (self.client, 0),
            "state": {"host": host, "client": self.client},
        }
        return await self._call(scope, url, host, body)

    async def _call(self, scope: dict[str, Any], url: str, host: str, body: bytes) -> Reply:
        messages: list[Any] = []

        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if not parts:
                await asyncio.Event().wait()  # the client stays
            return parts.pop()

        async def send(message: Any) -> None:
            messages.append(message)

        try:
            await self.server.app()(scope, receive, send)
        except Exception as error:
            self.faults.append(error)
        start = messages[0]
        headers = [(key.decode(), value.decode()) for key, value in start["headers"]]
        for key, value in headers:
            if key == "set-cookie" and self.keeps_cookies:
                self._keep(host, value)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        return Reply(url, start["status"], headers, body)

    def _keep(self, host: str, line: str) -> None:
        pair, *flags = line.split("; ")
        name, _, value = pair.partition("=")
        jar = self.cookies.setdefault(host, {})
        if "Max-Age=0" in flags:
            jar.pop(name, None)
        else:
            jar[name] = value

    async def options(self, path: str, **form: str) -> dict[str, Any]:
        """Return the options of a ceremony."""
        reply = await self.script(f"https://{AUTH}{path}", form)
        assert reply.status == 200, reply.text
        return dict(reply.json)

    async def register(self, secret: str, authenticator: Authenticator) -> Reply:
        """Accept an invitation, as the script of `/invite` does."""
        options = await self.options("/invite/options", secret=secret)
        credential = authenticator.create(options)
        return await self.script(
            f"https://{AUTH}/invite", {"secret": secret, "credential": credential}
        )

    async def sign_in(self, authenticator: Authenticator, *, attempt: str = "") -> Reply:
        """Sign in with a passkey, as the script does."""
        options = await self.options("/passkey/sign-in/options")
        credential = authenticator.get(options)
        return await self.script(
            f"https://{AUTH}/passkey/sign-in", {"credential": credential, "attempt": attempt}
        )

    async def continue_with_passkey(self, reply: Reply, authenticator: Authenticator) -> Reply:
        """Use the passkey button of a page, and go where its script goes."""
        (button,) = [found for found in reply.page.buttons if "data-passkey" in found]
        done = await self.sign_in(authenticator, attempt=button["data-attempt"])
        assert done.status == 200, done.text
        return await self.get(urljoin(reply.url, done.json["next"]))


async def start_portal(servers: Stores, folder: Path, **settings: Any) -> PortalServer:
    """Start a portal with a store of its own."""
    store = await servers.start(**settings)
    keys = IdentityKeys(store.database, folder)
    await keys.load()
    return PortalServer(store, keys)
