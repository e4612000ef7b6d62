"""A web site in the test's own loop: pages, a live chart, a form and a service worker."""

import contextlib
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Self

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from tests.support import web_pages
from tests.support.assertion_verifier import HEADER, AssertionVerifier
from tests.support.ports import free_port

TICK = 0.05
"""Seconds between two values of the chart."""


class WebSite:
    """The site; its pages are in `web_pages`.

    Args:
        verifier: knows the keys for the assertion at `/whoami`.

    Attributes:
        requests: the head of each request.
    """

    def __init__(self, verifier: AssertionVerifier) -> None:
        self.port = free_port()
        self.verifier = verifier
        self.requests: list[HTTPServerRequest] = []
        site = {"site": self}
        application = Application(
            [
                (r"/live", _Live, site),
                (r"/whoami", _WhoAmI, site),
                (r"/form", _Form, site),
                (r"/.*", _Page, site),
            ],
            log_function=lambda _handler: None,
        )
        self._server = HTTPServer(application)

    async def __aenter__(self) -> Self:
        self._server.listen(self.port, "127.0.0.1")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.stop()
        await self._server.close_all_connections()

    def requests_of(self, path: str) -> list[HTTPServerRequest]:
        """Return the requests for a path."""
        return [request for request in self.requests if request.path == path]

    def cookies_seen(self) -> set[str]:
        """Return the names of all cookies that have come with requests."""
        fields = [value for one in self.requests for value in one.headers.get_list("Cookie")]
        return {pair.partition("=")[0].strip() for field in fields for pair in field.split(";")}


class _Recorded(RequestHandler):
    """Base of the handlers: records each request."""

    def initialize(self, site: WebSite) -> None:
        self.site = site

    def prepare(self) -> None:
        self.site.requests.append(self.request)


class _Page(_Recorded):
    """Answers with what `web_pages` has at the path."""

    def get(self) -> None:
        kind, body = web_pages.at(self.request.path)
        self.set_header("Content-Type", kind)
        self.set_cookie("flavour", "vanilla", path="/")
        self.finish(body)

    head = post = get


class _Form(_Recorded):
    """Shows a form, and what it has sent."""

    def get(self) -> None:
        self.finish(web_pages.FORM)

    def post(self) -> None:
        self.finish(web_pages.page(f"Received {self.get_body_argument('text')}"))


class _WhoAmI(_Recorded):
    """Answers with the verified claims of the assertion."""

    async def get(self) -> None:
        claims = await self.site.verifier.verify(self.request.headers.get_list(HEADER))
        if claims is None:
            self.set_status(HTTPStatus.UNAUTHORIZED)
        self.set_header("Content-Type", "application/json")
        await self.finish(json.dumps(claims))


class _Live(WebSocketHandler):
    """Sends a rising number, as a chart's source does."""

    def initialize(self, site: WebSite) -> None:
        self._site = site
        self._stop: Callable[[], None] = lambda: None

    def check_origin(self, origin: str) -> bool:
        return True  # the server decides

    def open(self, *_: Any) -> None:
        self._site.requests.append(self.request)
        self._tick(0)

    def on_close(self) -> None:
        self._stop()

    def _tick(self, value: int) -> None:
        with contextlib.suppress(WebSocketClosedError):
            self.write_message(str(value))
            loop = IOLoop.current()
            timer = loop.call_later(TICK, self._tick, value + 1)
            self._stop = lambda: loop.remove_timeout(timer)
