"""Rendering of pages from the templates of this package."""

import datetime
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from zerotrust.server.portal import csrf
from zerotrust.server.portal.static_files import StaticFiles
from zerotrust.server.portal.visitor import host_of

MAX_FOREIGN_TEXT: Final = 200
"""Longest text of strangers on a page, in characters."""


@dataclass(frozen=True, slots=True)
class Action:
    """A link of a page that tells somebody what to do next."""

    label: str
    href: str


class PageTemplates:
    """The templates, with what all of them use."""

    def __init__(self) -> None:
        self.static = StaticFiles()
        self._environment = environment("zerotrust.server.portal")
        self._environment.globals["static_url"] = self.static.url

    def page(
        self, request: Request, name: str, /, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Return a page.

        Args:
            name: file name of the template without its suffix.
        """
        template = self._environment.get_template(f"{name}.html")
        text = template.render(
            host=host_of(request), csrf=csrf.token_of(request), query="", **values
        )
        return HTMLResponse(text, status)

    def message(
        self, request: Request, title: str, *texts: str, status: int = 200, actions: list[Action]
    ) -> HTMLResponse:
        """Return a page with a message: what happened, and what to do now."""
        return self.page(
            request, "message", status=status, title=title, texts=texts, actions=actions
        )


@cache
def environment(*packages: str) -> Environment:
    """Return the environment for the templates of packages; the first has a name's first say.

    It is the same each time, with the templates that it has compiled.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package, "templates") for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["moment"] = moment
    made.filters["foreign"] = foreign
    made.filters["sentence"] = sentence
    return made


@lru_cache(maxsize=1024)
def moment(seconds: float | None) -> Markup:
    """Return a time in UTC as HTML; the script shows it in the time zone of the browser."""
    if seconds is None:
        return Markup("never")
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    shown = f"{at.day} {at:%b %Y, %H:%M} UTC"
    return Markup('<time datetime="{}">{}</time>').format(f"{at:%Y-%m-%dT%H:%M:%SZ}", shown)


def foreign(text: str) -> str:
    """Return a stranger's text, cut."""
    return text if len(text) <= MAX_FOREIGN_TEXT else f"{text[: MAX_FOREIGN_TEXT - 1]}…"


def sentence(text: str) -> str:
    """Return the message of an error as a sentence; empty if it is."""
    whole = text[:1].upper() + text[1:]
    return whole if not whole or whole.endswith((".", "!", "?")) else f"{whole}."
