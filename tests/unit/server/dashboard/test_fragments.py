"""Tests of fragments: rendered once for each version."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from zerotrust.server.dashboard import fragments
from zerotrust.server.dashboard.fragments import Fragment, RenderedFragments, View

pytestmark = pytest.mark.anyio


class Source:
    """Counts how often it is asked for values."""

    def __init__(self) -> None:
        self.loaded = 0
        self.number = 1

    async def load(self, view: View) -> Mapping[str, Any]:
        self.loaded += 1
        return {"number": self.number}

    def version(self, view: View) -> int:
        return self.number


async def render(template: str, values: Mapping[str, Any]) -> str:
    await asyncio.sleep(0)
    return f"<p>{template} {values['number']} {values['view'].get('host')}</p>"


async def test_all_viewers_share_what_is_rendered_until_it_changes() -> None:
    source, rendered = Source(), RenderedFragments(render)
    fragment = Fragment("numbers", source.load, source.version)
    view = View("/", (("host", "a"),))
    first = await rendered.html("list", fragment, view, 7)
    assert await rendered.html("list", fragment, view, 7) is first
    assert first.startswith('<div id="live-list" data-fragment="list" data-version="')
    assert "<p>numbers 1 a</p>" in first
    source.number = 2
    assert "numbers 2" in await rendered.html("list", fragment, view, 7)
    assert source.loaded == 2
    await rendered.html("list", fragment, view, 8)  # a new record of the audit log
    await rendered.html("list", fragment, View("/", (("host", "a"),), may_change=True), 8)
    assert source.loaded == 4


async def test_dashboards_that_ask_at_the_same_time_share_one_rendering() -> None:
    source, rendered = Source(), RenderedFragments(render)
    fragment = Fragment("numbers", source.load, source.version)
    asked = (rendered.html("list", fragment, View("/"), 7) for _ in range(5))
    first, *others = await asyncio.gather(*asked)
    assert source.loaded == 1
    assert all(one is first for one in others)


async def test_a_fragment_that_has_to_be_forgotten_is_rendered_each_time() -> None:
    source, rendered = Source(), RenderedFragments(render)
    fragment = Fragment("numbers", source.load, source.version, kept=False)
    for _ in range(2):
        assert "numbers 1" in await rendered.html("list", fragment, View("/"), 7)
    assert source.loaded == 2


async def test_a_fragment_may_ignore_the_audit_log() -> None:
    source = Source()
    fragment = Fragment("x", source.load, source.version, follows_audit=False)
    assert fragment.version_text(View("/"), 1) == fragment.version_text(View("/"), 2)
    assert Fragment("x", source.load).version_text(View("/"), 1) != Fragment(
        "x", source.load
    ).version_text(View("/"), 2)


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MAX_RENDERED", 2)
    source, rendered = Source(), RenderedFragments(render)
    fragment = Fragment("x", source.load)
    for host in "abcb":
        await rendered.html("list", fragment, View("/", (("host", host),)), 1)
    assert source.loaded == 3
    await rendered.html("list", fragment, View("/", (("host", "a"),)), 1)
    assert source.loaded == 4


def test_values_of_a_query_are_cut() -> None:
    assert View("/", (("host", "x" * 300), ("host", "y"))).get("host") == "x" * 200
    assert View("/").get("host") == ""
