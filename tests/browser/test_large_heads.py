"""A browser takes the largest heads, over HTTP/2 and through the whole chain."""

from pathlib import Path

import pytest

from tests.support.answering_backend import AnsweringBackend
from tests.support.browser import chromium, verified_key
from tests.support.stack import Authority, Stack, service
from zerotrust.http.head import MAX_RESPONSE_FIELDS, MAX_RESPONSE_HEAD_BYTES

pytestmark = [pytest.mark.browser, pytest.mark.anyio, pytest.mark.timeout(120)]

HOST = "large.localhost"
FIELDS = MAX_RESPONSE_FIELDS - 2


async def test_a_browser_shows_a_page_with_the_largest_head(tmp_path: Path) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n"
    fields = b"".join(b"X-%d: a\r\n" % number for number in range(FIELDS - 1))
    rest = MAX_RESPONSE_HEAD_BYTES - len(start) - len(fields) - len(b"X-Long: \r\n\r\n")
    head = start + fields + b"X-Long: " + b"a" * rest + b"\r\n\r\n"
    assert len(head) == MAX_RESPONSE_HEAD_BYTES
    async with AnsweringBackend({"/": head + b"hello"}) as backend:
        agents = {"agent-1": [service(HOST, backend.port)]}
        async with Stack(tmp_path, Authority(tmp_path / "ca"), agents=agents) as stack:
            root = stack.caddy.root
            assert root
            port = stack.caddy.port
            async with chromium(verified_key(HOST, port, root)) as browser:
                page = await browser.new_page()
                answer = await page.goto(f"https://{HOST}:{port}/")
                assert answer is not None and answer.status == 200
                names = {name for name in await answer.all_headers() if name.startswith("x-")}
                assert names == {"x-long"} | {f"x-{number}" for number in range(FIELDS - 1)}
                assert len(await answer.header_value("x-long") or "") == rest
                assert await page.inner_text("body") == "hello"
