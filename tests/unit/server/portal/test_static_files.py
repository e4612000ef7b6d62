import re
from importlib.resources import files

import pytest

from tests.support.portal_server import AUTH, PHOTOS, Browser

pytestmark = pytest.mark.anyio

SOURCE = files("zerotrust.server.portal")


@pytest.mark.parametrize("host", [AUTH, PHOTOS])
@pytest.mark.parametrize(
    ("name", "media_type"),
    [("portal.css", "text/css"), ("portal.js", "text/javascript"), ("icon.svg", "image/svg+xml")],
)
async def test_each_host_has_the_files(
    browser: Browser, host: str, name: str, media_type: str
) -> None:
    url = f"https://{host}{browser.server.site.templates.static.url(name)}"
    reply = await browser.get(url)
    assert reply.status == 200 and reply.header("content-type").startswith(media_type)
    assert reply.body == (SOURCE / "static" / name).read_bytes()
    assert "immutable" in reply.header("cache-control")
    old = await browser.get(f"{url.partition('?')[0]}?v=old")
    assert old.status == 200 and old.header("cache-control") == "no-cache"


async def test_no_other_file_is_served(browser: Browser) -> None:
    for name in ("portal.py", "..%2fportal.py", "../portal.py", ""):
        reply = await browser.get(f"https://{AUTH}/.0trust/static/{name}")
        assert reply.status == 404


def test_files_need_no_other_host_and_no_inline_code() -> None:
    for name in ("portal.css", "portal.js"):
        text = (SOURCE / "static" / name).read_text()
        assert not re.search(r"https?://|\burl\(|@import|\beval\b|innerHTML|\.style\b", text)
    for template in (SOURCE / "templates").iterdir():
        text = template.read_text()
        assert not re.search(
            r"https?://(?!photos\.example\.com)|<style|style=|\son\w+=|javascript:", text
        )
        assert "|safe" not in text, "all text is escaped"
