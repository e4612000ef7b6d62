"""One home with sign-in, one demo, and their browsers."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.support.demo_process import Demo
from tests.support.portal_site import site_browser
from tests.support.web_home import WebHome, home_browser, web_home

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WebHome]:
    async with web_home(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="session")
async def http2(home: WebHome) -> AsyncIterator[Browser]:
    """A browser as it is: it speaks HTTP/2."""
    async with home_browser(home) as started:
        yield started


@pytest.fixture(scope="session")
async def http1(home: WebHome) -> AsyncIterator[Browser]:
    """A browser that speaks HTTP/1.1 alone."""
    async with home_browser(home, "--disable-http2") as started:
        yield started


@pytest.fixture(params=["http2", "http1"])
def either(request: pytest.FixtureRequest) -> Browser:
    """Each of the browsers in turn."""
    found: Browser = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
async def portal_browser() -> AsyncIterator[Browser]:
    """A browser for the sites of all tests of the server's own pages."""
    async with site_browser() as started:
        yield started


@pytest.fixture(scope="session")
async def demo() -> AsyncIterator[Demo]:
    """The demo; at the end SIGTERM stops it, and nothing is left."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        async with Demo(Path(folder)) as process:
            yield process
            assert await process.stop() == 0, process.text()
            await process.check_gone()
