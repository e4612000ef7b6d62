"""Fields behind the body: what of them reaches a backend, and what reaches a client."""

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.unit.server.proxy_fixture import ProxyFixture
from zerotrust.http.head_block import check_trailers
from zerotrust.http.headers import folded, is_forbidden_trailer, is_usual_trailer
from zerotrust.model.server import ProxyApi
from zerotrust.server.proxy import trailers
from zerotrust.server.proxy.trailers import TrailerFilter
from zerotrust.tunnel.codes import KIND_CHUNKED

OK = b"HTTP/1.1 200 OK\r\n"
EDITS = {"set": {"X-Checksum": "ours"}, "add": {"ETag": "ours"}, "delete": ["digest", "X-Sum"]}
EDITED = {b"x-checksum", b"etag", b"digest", b"x-sum"}
EDITING = {
    "global_middleware": [{"type": "headers", "config": {"request": EDITS, "response": EDITS}}]
}
PASSED = ["x-sum", "X-Order"]


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """The lines that are logged."""
    with capture_logs() as lines:
        yield lines


def proxy(*, passed: list[str] | None = None, edits: bool = False) -> ProxyFixture:
    found = ProxyFixture(EDITING if edits else {})
    found.ingress.reconfigure(
        ProxyApi(hold_timeout=0.0, pass_trailers=passed or []), https_port=443
    )
    return found


async def of_request(found: ProxyFixture, lines: bytes) -> bytes | None:
    """Return the trailers that the agent gets; None if the request was refused."""
    await found.ask(
        "POST /", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n" + lines + b"\r\n"
    )
    sink = found.agent.sinks[max(found.agent.sinks)]
    if not sink.ended:
        return None
    assert sink.body == b"x"
    return sink.trailer or b""


async def of_answer(found: ProxyFixture, payload: bytes) -> bytes | None:
    """Return the trailers that the client gets; None if the answer was broken off."""
    await found.ask("GET /", "TE: trailers")
    stream, _ = found.last
    await found.answer(OK, kind=KIND_CHUNKED, body=b"x")
    found.agent.session.send_trailers(stream, payload)
    said = await found.hear()
    if not said:
        assert found.transport.is_closing()
        return None
    assert said.startswith(b"0\r\n") and said.endswith(b"\r\n")
    return said[3:-2]


NAMES = st.sampled_from(
    b"Digest DIGEST X-Checksum x_checksum ETag Server-Timing Grpc-Status x-sum X_SUM X-Order X-User"
    b" Set-Cookie Host Transfer-Encoding content_length Strict-Transport-Security X-Original-URL"
    b" X_HTTP_Method_Override X-Real-IP X-Forwarded-User Access-Control-Allow-Origin X-0Trust-User"
    b" Sec-Fetch-Site x_0trust_user".split()
) | st.from_regex(rb"[A-Za-z_-]{1,9}", fullmatch=True)
LINES = st.lists(
    st.tuples(NAMES, st.sampled_from([b": ", b":", b" : ", b""]), st.binary(max_size=6)), max_size=6
).map(lambda fields: b"".join(name + colon + value + b"\r\n" for name, colon, value in fields))
CANONICAL = st.lists(NAMES, max_size=6).map(
    lambda names: b"".join(name + b": v\r\n" for name in names)
)


def allowed(block: bytes, *, edits: bool, passed: list[str]) -> bool:
    """Every line of the block may be there."""
    names = [folded(line.partition(b":")[0]) for line in block.splitlines()]
    own = {folded(name.encode()) for name in passed}
    return check_trailers(block) and all(
        not is_forbidden_trailer(name)
        and (is_usual_trailer(name) or name in own)
        and not (edits and name in EDITED)
        for name in names
    )


@given(LINES | CANONICAL, st.booleans(), st.sampled_from([[], PASSED]))
def test_nothing_else_reaches_the_agent(lines: bytes, edits: bool, passed: list[str]) -> None:
    async def check() -> None:
        got = await of_request(proxy(passed=passed, edits=edits), lines)
        assert got is None or allowed(got, edits=edits, passed=passed)

    asyncio.run(check())


@given(LINES | CANONICAL | st.binary(max_size=30), st.booleans(), st.sampled_from([[], PASSED]))
def test_nothing_else_reaches_the_client(payload: bytes, edits: bool, passed: list[str]) -> None:
    async def check() -> None:
        got = await of_answer(proxy(passed=passed, edits=edits), payload)
        assert got is None or allowed(got, edits=edits, passed=passed)

    asyncio.run(check())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("passed", "edits", "left"),
    [
        ([], False, b"Digest: 1\r\nx_checksum: 2\r\n"),
        (PASSED, False, b"Digest: 1\r\nx_checksum: 2\r\nX_Sum: 3\r\nx-order: 4\r\n"),
        (PASSED, True, b"x-order: 4\r\n"),
        ([], True, b""),
        (["Set-Cookie", "X-Forwarded-User"], True, b""),
    ],
)
async def test_what_is_allowed_arrives(passed: list[str], edits: bool, left: bytes) -> None:
    lines = b"Digest: 1\r\nx_checksum: 2\r\nX_Sum: 3\r\nx-order: 4\r\nX-User: root\r\n"
    found = proxy(passed=passed, edits=edits)
    assert await of_request(found, lines + b"X-Forwarded-User: root\r\nSet-Cookie: a\r\n") == left
    assert await of_answer(proxy(passed=passed, edits=edits), lines) == left


@pytest.mark.anyio
async def test_what_is_dropped_is_said_once_for_each_direction(logs: list[dict[str, Any]]) -> None:
    for _ in range(2):
        found = proxy()
        for _ in range(2):
            await of_request(found, b"X-User: 1\r\n" + b"X" * 100 + b": 1\r\n" + b"a: 1\r\n" * 20)
            await found.answer(b"HTTP/1.1 204 No Content\r\n")
            await of_answer(found, b"X-Sum: 1\r\nDigest: 1\r\n")
    assert [(line["of"], line["host"]) for line in logs] == [
        ("request", "app.example.com"),
        ("answer", "app.example.com"),
    ] * 2
    assert logs[0]["fields"] == ["X-User", "X" * 64, *["a"] * 6]
    assert logs[1]["fields"] == ["X-Sum"]
    assert "api.pass_trailers" in logs[1]["hint"]


def test_the_services_that_are_remembered_are_bounded(
    monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(trailers, "MAX_REPORTED", 2)
    found = TrailerFilter()
    for number in range(10):
        assert found.apply(b"X-Sum: 1\r\n", (), host=f"{number}.example.com", of="answer") == b""
    assert len(logs) == 4
