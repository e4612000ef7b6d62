"""Browser without scripts: cookies, redirects and forms, through Caddy and to other servers."""

import re
from html import unescape
from urllib.parse import urljoin

import httpx2

from tests.support.entrypoint import Entrypoint

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


class _Loopback(httpx2.AsyncHTTPTransport):
    """Reaches each host name at 127.0.0.1, as browsers do with *.localhost."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        local = httpx2.Request(
            request.method,
            request.url.copy_with(host="127.0.0.1"),
            headers=request.headers,  # with the true Host
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await super().handle_async_request(local)


class HttpBrowser:
    """A browser; use it as an async context manager.

    Attributes:
        visited: URLs that it has requested.
    """

    def __init__(self, caddy: Entrypoint) -> None:
        assert caddy.tls is not None
        self.visited: list[str] = []
        self.client = httpx2.AsyncClient(
            transport=_Loopback(verify=caddy.tls), headers=PAGE, timeout=15, trust_env=False
        )

    async def __aenter__(self) -> "HttpBrowser":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def open(self, url: str, *, most: int = 12) -> httpx2.Response:
        """Open a page; follow at most this number of redirects."""
        for _ in range(most):
            self.visited.append(url)
            answer = await self.client.get(url)
            if not answer.has_redirect_location:
                return answer
            url = urljoin(url, answer.headers["location"])
        raise AssertionError(f"redirects without end: {self.visited}")

    async def follow(self, page: httpx2.Response, label: str) -> httpx2.Response:
        """Follow the link with this label."""
        link = re.search(rf'href="([^"]+)"[^>]*>{label}<', page.text)
        assert link is not None, page.text
        return await self.open(urljoin(str(page.request.url), unescape(link[1])))

    async def submit(self, page: httpx2.Response, **fields: str) -> httpx2.Response:
        """Submit the form of a page, with its hidden fields."""
        form = re.search(r'<form[^>]* action="([^"]+)"', page.text)
        assert form is not None, page.text
        hidden = {
            name: unescape(value)
            for name, value in re.findall(
                r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text
            )
        }
        url = urljoin(str(page.request.url), unescape(form[1]))
        self.visited.append(url)
        answer = await self.client.post(url, data={**hidden, **fields})
        if answer.has_redirect_location:
            return await self.open(urljoin(url, answer.headers["location"]))
        return answer

    def cookie(self, host: str) -> str:
        """Return the field Cookie that it sends to a host name."""
        found = [
            f"{cookie.name}={cookie.value}"
            for cookie in self.client.cookies.jar
            if cookie.domain == host
        ]
        return "; ".join(found)
