"""A person with a browser and a passkey, over real sockets: cookies of each host, redirects, forms."""

import html
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from websockets.asyncio.client import connect

from tests.support.authenticator import Authenticator
from tests.support.client import Response
from tests.support.entrypoint import Entrypoint

MAX_REDIRECTS = 10
NAVIGATION = (
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Site", "none"),
    ("Accept", "text/html"),
)


@dataclass
class Person:
    """A browser with a passkey, or without one.

    Attributes:
        auth_host: host name of the sign-in pages.
        cookies: by host name.
        url: address of the page that is open.
    """

    caddy: Entrypoint
    auth_host: str
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)
    url: str = ""

    def __post_init__(self) -> None:
        self._passkey = Authenticator(origin=self.auth_url("").removesuffix("/"))

    def auth_url(self, path: str) -> str:
        """Return the address of a sign-in page."""
        return self.caddy.url(self.auth_host, path or "/")

    async def accept_invitation(self, link: str) -> None:
        """Open the link of an invitation, and register the passkey."""
        page, _, secret = link.partition("#")
        assert (await self.open(page)).status == 200
        options = await self._script("/invite/options", {"secret": secret})
        credential = self._passkey.create(options)
        await self._script("/invite", {"secret": secret, "credential": credential})

    async def sign_in(self, page: Response) -> Response:
        """Sign in on a sign-in page with the passkey; return the page that follows."""
        found = re.search(r'data-attempt="([^"]*)"', page.body.decode())
        assert found, page
        options = await self._script("/passkey/sign-in/options", {})
        answer = {
            "credential": self._passkey.get(options),
            "attempt": html.unescape(found[1]),
        }
        following = await self._script("/passkey/sign-in", answer)
        return await self.open(self.auth_url(following["next"]))

    async def open(self, url: str) -> Response:
        """Open a page; follow redirects."""
        for _ in range(MAX_REDIRECTS):
            self.url = url
            response = await self._request("GET", url, NAVIGATION)
            location = response.get("location")
            if response.status not in (302, 303) or location is None:
                return response
            url = urljoin(url, location)
        raise AssertionError(f"more than {MAX_REDIRECTS} redirects; the last leads to {url}")

    async def send_form(self, url: str, **fields: str) -> Response:
        """Send a form of a page of the same origin."""
        return await self._post(url, fields, ("Accept", "text/html"))

    async def token_of(self, url: str) -> str:
        """Return the token of a page's forms."""
        page = (await self.open(url)).body.decode()
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        assert found, page
        return html.unescape(found[1])

    def websocket(self, host: str, path: str = "/", **options: Any) -> connect:
        """Open a WebSocket as a page of the same host does."""
        headers = {"Cookie": self.cookie(host)}
        origin = self.caddy.url(host).removesuffix("/")
        return self.caddy.websocket(
            host, path, origin=origin, additional_headers=headers, **options
        )

    async def _script(self, path: str, form: dict[str, str]) -> Any:
        """Send a form as the script of a sign-in page does; return the JSON of the answer."""
        response = await self._post(self.auth_url(path), form, ("Accept", "application/json"))
        assert response.status == 200, response
        return json.loads(response.body)

    async def _post(self, url: str, form: dict[str, str], *fields: tuple[str, str]) -> Response:
        body = urlencode(form).encode()
        head = (
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", str(len(body))),
            ("Origin", url[: url.index("/", len("https://"))]),
            ("Sec-Fetch-Site", "same-origin"),
            *fields,
        )
        return await self._request("POST", url, head, body)

    async def _request(
        self, method: str, url: str, fields: tuple[tuple[str, str], ...], body: bytes = b""
    ) -> Response:
        parts = urlsplit(url)
        host = parts.hostname or ""
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        cookie = self.cookie(host)
        head = (*fields, ("Cookie", cookie)) if cookie else fields
        response = await self.caddy.request(host, method, target or "/", head, body)
        for value in response.all("set-cookie"):
            name, _, rest = value.partition("=")
            self.cookies.setdefault(host, {})[name] = rest.partition(";")[0]
        return response

    def cookie(self, host: str) -> str:
        """Return the value of Cookie for a host name."""
        return "; ".join(f"{name}={value}" for name, value in self.cookies.get(host, {}).items())


def pairing_code(page: Response) -> str:
    """Return the code on the page that shows it."""
    found = re.search(r'id="code">([^<]+)<', page.body.decode())
    assert found, page
    return found[1]
