"""Odd requests, sent to Caddy alone and to 0Trust behind Caddy: the backend gets the same.

Where it does not, the case says why. The cases are data in `tests/client_request_cases.py`, and the
table of requests in docs/compatibility.md.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.client_request_cases import CASES, HOST, HOST_LINE, Case
from tests.support.bare_caddy import BareCaddy
from tests.support.entrypoint import Entrypoint
from tests.support.generated_table import check_table
from tests.support.request_recorder import RecordedRequest, RequestRecorder
from tests.support.stack import Authority, Stack, service

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("client_requests"),
]

PAGE: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])")
ERROR_CODE: Final = re.compile(rb"X-0Trust-Error: (\w+)", re.IGNORECASE)
MOST_SHOWN: Final = 40
"""Characters of a start line in the table."""


@dataclass
class Ways:
    """The two ways to the backend, and the stack that is one of them."""

    caddy: Entrypoint
    zerotrust: Entrypoint
    backend: RequestRecorder
    stack: Stack


@pytest.fixture(scope="module")
async def ways(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Ways]:
    folder: Path = tmp_path_factory.mktemp("client-requests")
    async with RequestRecorder() as backend:
        agents = {"agent-1": [service(HOST, backend.port)]}
        async with (
            BareCaddy(folder, {HOST: backend.port}) as bare,
            Stack(folder / "stack", authority, agents=agents) as stack,
        ):
            yield Ways(bare.caddy, stack.caddy, backend, stack)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_request_is_understood_as_by_caddy(case: Case, ways: Ways) -> None:
    found = [await result(case, way, ways.backend) for way in (ways.caddy, ways.zerotrust)]
    assert found == [case.caddy, case.zerotrust]


async def result(case: Case, way: Entrypoint, backend: RequestRecorder) -> str:
    """Send a request; return what became of it, in Markdown."""
    backend.requests.clear()
    answers = await ask(case, way)
    parts = [" ".join(match.decode() for match in STATUS.findall(answers))]
    parts[0] += "".join(f" {match.decode()}" for match in ERROR_CODE.findall(answers))
    for request in backend.requests:
        parts += described(request, case.show)
    return ", ".join(parts)


async def ask(case: Case, way: Entrypoint) -> bytes:
    """Send a request; return the heads of the answers, or what came before the connection ended."""
    expected, heard = 1 + case.raw.count(b"\r\n\r\nGET "), b""
    async with await way.open(HOST, patience=30) as client:
        with contextlib.suppress(ConnectionError):
            await client.send(case.raw)
            while not is_complete(heard, expected) and (piece := await client.read(65536)):
                heard += piece
    return heard


def is_complete(heard: bytes, expected: int) -> bool:
    """Return True if these are the whole heads of so many final answers."""
    statuses = STATUS.findall(heard)
    final = [status for status in statuses if not status.startswith(b"1")]
    return len(final) == expected and heard.count(b"\r\n\r\n") >= len(statuses)


def described(request: RecordedRequest, show: Sequence[str]) -> list[str]:
    start = printable(request.start.removesuffix(" HTTP/1.1"))
    parts = [f"`{start if len(start) <= MOST_SHOWN else start[: MOST_SHOWN // 2] + '…'}`"]
    for name in show:
        if name == "body":
            parts.append(f"body `{request.body}`" if request.body else "no body")
        else:
            lines = [f"{name}: {printable(value)}".rstrip() for value in request.values(name)]
            parts += [f"`{line}`" for line in lines] or [f"no {name}"]
    return parts


def printable(text: str) -> str:
    return text.encode("latin-1").decode("ascii", "backslashreplace")


async def test_other_bytes_than_ascii_pass_the_server_as_they_are(ways: Ways) -> None:
    """Caddy encodes those of the path; 0Trust itself changes none."""
    ways.backend.requests.clear()
    async with await ways.stack.api.open(HOST) as client:
        await client.send(b"GET /\xc3\xa9\xe9?\xff HTTP/1.1\r\n" + HOST_LINE + b"\r\n")
        assert (await client.read_response()).status == 200
    (request,) = ways.backend.requests
    assert request.start.encode("latin-1") == b"GET /\xc3\xa9\xe9?\xff HTTP/1.1"


async def test_a_redirect_encodes_them(ways: Ways) -> None:
    async with await ways.stack.plain.open(HOST) as client:
        await client.send(b"GET /\xc3\xa9?\xff HTTP/1.1\r\n" + HOST_LINE + b"\r\n")
        response = await client.read_response()
    assert response.status == 301
    location = response.get("location")
    assert location is not None and location.endswith("/%C3%A9?%FF")


def test_the_table_of_requests() -> None:
    rows = [(case.name, case.caddy, case.zerotrust, case.reason) for case in CASES]
    head = ("request", "through Caddy alone", "through 0Trust", "why they differ")
    check_table(PAGE, "requests", [head, *rows])
