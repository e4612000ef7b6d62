"""Odd answers of backends, through 0Trust and through Caddy alone: only repaired ones may differ.

The answers are data in `tests/odd_answers.py`. `UPDATE_DOCS=1` writes the table of the results.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from tests.odd_answers import ANSWERS, OddAnswer
from tests.support.answer_reader import read_answer
from tests.support.answering_backend import AnsweringBackend
from tests.support.bare_caddy import BareCaddy
from tests.support.entrypoint import Entrypoint, trusting
from tests.support.generated_table import check_table
from tests.support.stack import Authority, Stack, service
from zerotrust.http.deviations import Deviation

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("answers"),
]

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
HOST = "old.localhost"
STRICT = "strict.localhost"
PATHS = {f"/{number}": answer for number, answer in enumerate(ANSWERS)}


@dataclass
class Chains:
    """The two ways to the backend."""

    stack: Stack
    bare: BareCaddy


@pytest.fixture(scope="module")
async def chains(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Chains]:
    folder = tmp_path_factory.mktemp("answers")
    async with AnsweringBackend({path: answer.raw for path, answer in PATHS.items()}) as backend:
        services = [
            service(HOST, backend.port),
            service(STRICT, backend.port, strict_upstream=True),
        ]
        async with (
            Stack(folder, authority, agents={"agent-1": services}) as stack,
            BareCaddy(folder, {HOST: backend.port}) as bare,
        ):
            yield Chains(stack, bare)


async def test_each_answer_is_right_and_differs_from_caddy_alone_only_where_noted(
    chains: Chains,
) -> None:
    rows = [("Answer of the backend", "Through Caddy alone", "Through 0Trust", "Note")]
    wrong = {}
    for path, answer in PATHS.items():
        alone = await read_answer(chains.bare.caddy, HOST, answer.method, path)
        got = await read_answer(chains.stack.caddy, HOST, answer.method, path)
        if got != answer.expected or (alone == got) != (not answer.note):
            wrong[answer.name] = f"got {got}, expected {answer.expected}, Caddy alone {alone}"
        rows.append((answer.name, _cell(alone), _cell(got), answer.note))
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
    check_table(PAGE, "answers", rows)


def _cell(result: str) -> str:
    return f"`{result}`"


@pytest.mark.parametrize("way", ["caddy", "api"])
async def test_a_body_that_breaks_off_is_never_a_complete_shorter_one(
    chains: Chains, way: str
) -> None:
    """The expected result says `broken off`; so does a body without end over HTTP/2."""
    entrypoint: Entrypoint = getattr(chains.stack, way)
    for path, answer in broken():
        assert await read_answer(entrypoint, HOST, answer.method, path) == answer.expected
        if way == "caddy":
            assert await over_h2(entrypoint, path) == ("200", False), answer.name


def broken() -> list[tuple[str, OddAnswer]]:
    found = [(path, answer) for path, answer in PATHS.items() if "broken off" in answer.expected]
    assert len(found) > 8
    return found


async def test_a_complete_body_is_complete_over_h2(chains: Chains) -> None:
    for path, answer in PATHS.items():
        if answer.expected == '200 "hello"' and answer.method == "GET":
            assert await over_h2(chains.stack.caddy, path) == ("200", True), answer.name


async def test_strict_upstream_refuses_what_is_repaired_else(chains: Chains) -> None:
    names = {
        "lines end in LF, HTTP/1.1": "502",
        "lines end in LF, HTTP/1.0": "502",
        "Content-Length twice, same": "502",
        "Transfer-Encoding and Content-Length": "502",
        "folded field": "502",
        "blank before the colon": "502",
        "blank inside a name": "502",
        "HTTP/1.2": "502",
        "Transfer-Encoding: identity": "502",
        "chunk size padded with blanks": "200, broken off",
        "chunk lines end in LF": "502",
    }
    for path, answer in PATHS.items():
        if answer.name in names:
            got = await read_answer(chains.stack.caddy, STRICT, answer.method, path)
            assert got == names[answer.name], answer.name


async def test_each_deviation_is_logged_once_with_its_fix(chains: Chains) -> None:
    for _ in range(2):
        for path, answer in PATHS.items():
            await read_answer(chains.stack.caddy, HOST, answer.method, path)
    told = re.findall(
        r"\[(\w+) *\] answer deviates from HTTP/1\.1 and was repaired .*fault='([^':]+)"
        rf".*fix='([^']+)' service={HOST} upstream=127\.0\.0\.1:\d+",
        chains.stack.agents["agent-1"].process.text(),
    )
    assert sorted(told) == sorted(
        ("warning" if what is Deviation.NO_FIELD else "info", what.fault, what.fix)
        for what in Deviation
    )


async def over_h2(entrypoint: Entrypoint, path: str) -> tuple[str, bool]:
    """Return the status, and whether the stream ended as a complete answer does."""
    assert entrypoint.root
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        entrypoint.port,
        ssl=trusting(entrypoint.root, "h2"),
        server_hostname=HOST,
    )
    machine = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    machine.initiate_connection()
    authority = f"{HOST}:{entrypoint.port}"
    head = [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]
    machine.send_headers(1, head, end_stream=True)
    status = ""
    try:
        async with asyncio.timeout(30):
            while True:
                writer.write(machine.data_to_send())
                for event in machine.receive_data(await reader.read(1 << 16)):
                    match event:
                        case ResponseReceived(headers=list(headers)):
                            status = {str(name): str(value) for name, value in headers}[":status"]
                        case DataReceived(flow_controlled_length=int(length)):
                            machine.acknowledge_received_data(length, 1)
                        case StreamEnded():
                            return status, True
                        case StreamReset():
                            return status, False
    finally:
        writer.transport.abort()
