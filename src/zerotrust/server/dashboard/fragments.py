"""Fragments: parts of a page that are replaced in the browser when they have changed.

A fragment is the same for all who have the same rights and look at the same query. So it is
rendered once for each version, however many dashboards are open.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from markupsafe import Markup

from zerotrust.net.background_work import next_slice

MAX_RENDERED: Final = 128
"""Rendered fragments that are kept."""
MAX_VALUE: Final = 200
"""Longest value of a query, in characters."""

Render = Callable[[str, Mapping[str, Any]], Awaitable[str]]
"""Renders a template with values."""


@dataclass(frozen=True, slots=True)
class View:
    """Parameters of a page: they decide about its contents.

    Attributes:
        path: path of the page.
        query: names and values of its query.
        may_change: the user may change something; others get no buttons.
    """

    path: str
    query: tuple[tuple[str, str], ...] = ()
    may_change: bool = False

    def get(self, name: str) -> str:
        """Return a value of the query; empty without one."""
        return next((value[:MAX_VALUE] for key, value in self.query if key == name), "")


def _no_version(_view: View) -> Hashable:
    return None


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a page.

    Attributes:
        template: name of its template, without the suffix.
        load: returns the values for the template.
        version: returns another value after each change that no record of the audit log shows. It
            is asked once a second for each open page, so it must cost little.
        follows_audit: each new record of the audit log makes a new version.
        kept: the rendered fragment is kept until its version changes. It is not where its contents
            have to be forgotten in time.
    """

    template: str
    load: Callable[[View], Awaitable[Mapping[str, Any]]]
    version: Callable[[View], Hashable] = _no_version
    follows_audit: bool = True
    kept: bool = True

    def version_text(self, view: View, revision: int) -> str:
        """Return the version as a short text.

        Args:
            revision: number of the last record of the audit log.
        """
        version = (revision if self.follows_audit else 0, self.version(view))
        return hashlib.blake2s(repr(version).encode(), digest_size=8).hexdigest()


class RenderedFragments:
    """Renders fragments, and keeps the results until their version changes.

    Args:
        render: renders a template.
    """

    def __init__(self, render: Render) -> None:
        self._render = render
        self._kept: OrderedDict[tuple[str, View], tuple[str, Markup]] = OrderedDict()
        self._locks: WeakValueDictionary[tuple[str, View], asyncio.Lock] = WeakValueDictionary()

    async def html(self, name: str, fragment: Fragment, view: View, revision: int) -> Markup:
        """Return the HTML of a fragment, with its name and its version.

        Dashboards that ask at the same time wait for one rendering.
        """
        key = (name, view)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            return await self._html(key, fragment, fragment.version_text(view, revision))

    async def _html(self, key: tuple[str, View], fragment: Fragment, version: str) -> Markup:
        name, view = key
        kept = self._kept.get(key)
        if kept is not None and kept[0] == version:
            self._kept.move_to_end(key)
            return kept[1]
        await next_slice()
        values = await fragment.load(view)
        body = await self._render(fragment.template, {"view": view, **values})
        html = Markup('<div id="live-{0}" data-fragment="{0}" data-version="{1}">{2}</div>').format(
            name,
            version,
            Markup(body),  # noqa: S704 - rendered with escaping
        )
        if not fragment.kept:
            return html
        self._kept[key] = (version, html)
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_RENDERED:
            self._kept.popitem(last=False)
        return html
