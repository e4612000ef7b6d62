"""Tests of zerotrust.server.ops.request_observers, with a server, an agent and a collector."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Response
from tests.support.inprocess_stack import (
    RunningAgent,
    RunningServer,
    StackFiles,
    dialling,
    serving,
)
from tests.support.metrics import Read, read
from tests.support.otlp_receiver import OtlpReceiver, receiving
from tests.support.ports import free_port
from tests.support.waiting import eventually
from zerotrust.errors import SetupError
from zerotrust.telemetry import access_log, tracing
from zerotrust.telemetry.request_record import RequestRecord

pytestmark = pytest.mark.anyio

APP = "app.example.com"
DOWN = "down.example.com"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class HeadBackend:
    """A backend that keeps the heads of its requests."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heads: list[bytes] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["HeadBackend"]:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                if b"\r\nUpgrade: chat/1" in self.heads[-1]:
                    writer.write(SWITCH)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    @property
    def traceparent(self) -> bytes:
        """The one of the last request; empty without one."""
        lines = [line for line in self.heads[-1].split(b"\r\n") if line.lower().startswith(b"tra")]
        return lines[0].partition(b": ")[2] if len(lines) == 1 else b""


@dataclass
class Chain:
    """A running server and agent with their backend."""

    server: RunningServer
    agent: RunningAgent
    backend: HeadBackend
    files: StackFiles
    metrics_port: int

    async def get(self, host: str, target: str = "/", *fields: tuple[str, str]) -> Response:
        async with await self.server.open(host) as client:
            return await client.get(target, *fields)

    def config(self, **sections: Any) -> Any:
        metrics = {"listen_addr": f"127.0.0.1:{self.metrics_port}"}
        return self.files.server(**{"metrics": metrics, **sections})

    async def use(self, **sections: Any) -> list[str]:
        """Apply these sections of the server's file."""
        return await self.server.change(self.config(**sections))

    async def use_at_agent(self, **sections: Any) -> None:
        config = self.agent.config.model_dump(exclude_unset=True) | sections
        await self.agent.change(type(self.agent.config).model_validate(config))

    async def read(self) -> Read:
        return await read(self.metrics_port)


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpReceiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    files, port = StackFiles(tmp_path_factory.mktemp("stack")), free_port()
    config = files.server(metrics={"listen_addr": f"127.0.0.1:{port}"})
    backend = HeadBackend()
    services = [
        {"hostname": APP, "backend": f"127.0.0.1:{backend.port}"},
        {"hostname": DOWN, "backend": f"127.0.0.1:{free_port()}"},
    ]
    async with (
        backend.listening(),
        serving(files, config) as server,
        dialling(files.agent(*services)) as agent,
    ):
        chain = Chain(server, agent, backend, files, port)

        async def served() -> bool:
            return await server.status(APP) == 200

        await eventually(served, "the service is published")
        yield chain


@pytest.fixture
async def chain(
    running: Chain, collector: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Chain]:
    monkeypatch.setattr(access_log, "INTERVAL", 0.01)
    monkeypatch.setattr(tracing, "DELAY_MS", 20)
    collector.spans.clear()
    yield running
    await running.use()
    await running.use_at_agent(tracing={})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_the_access_log_follows_the_file(chain: Chain, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    assert await chain.use(access_log={"output": str(path)}) == []
    await chain.get(APP, "/one?secret=1")
    await chain.get(DOWN, "/two")
    await eventually(lambda: len(lines(path)) == 2, "both lines are written")
    first, second = lines(path)
    assert (first["status"], first["host"], first["path"]) == (200, APP, "/one")
    assert (first["agent"], first["upstream"]) == ("home", f"127.0.0.1:{chain.backend.port}")
    parts = ("policy", "tunnel", "connect", "backend", "body")
    assert sum(first[part] for part in parts) == pytest.approx(first["duration"], abs=1e-4)
    assert (second["status"], second["error"], second["ended_by"]) == (
        502,
        "upstream_unreachable",
        "backend",
    )
    await chain.use(access_log={"output": str(path), "query": True})
    await chain.get(APP, "/three?page=3")
    await eventually(lambda: len(lines(path)) == 3, "the line is written")
    assert lines(path)[2]["query"] == "page=3"
    await chain.use()
    await chain.get(APP, "/four")
    assert len(lines(path)) == 3


async def test_a_connection_from_before_a_reload_is_in_the_new_log(
    chain: Chain, tmp_path: Path
) -> None:
    before, after = tmp_path / "before.log", tmp_path / "after.log"
    await chain.use(access_log={"output": str(before)})
    async with await chain.server.open(APP) as client:
        assert (await client.upgrade("/chat")).status == 101
        await chain.use(access_log={"output": str(after)})
    await eventually(lambda: len(lines(after)) == 1, "the line is written")
    (line,) = lines(after)
    assert (line["path"], line["status"], line["ended_by"]) == ("/chat", 101, "client")
    assert lines(before) == []


async def test_a_file_that_cannot_be_opened_changes_nothing(chain: Chain, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    await chain.use(access_log={"output": str(path)})
    with pytest.raises(SetupError, match=r"access_log\.output"):
        await chain.use(access_log={"output": str(tmp_path / "no" / "log")})
    await chain.get(APP)
    await eventually(lambda: len(lines(path)) == 1, "the previous file is still used")


async def test_metrics_of_each_service(chain: Chain) -> None:
    await chain.get(APP)
    await chain.get(DOWN)
    found = await chain.read()
    for status, host in (("2xx", APP), ("5xx", DOWN)):
        assert found["zerotrust_service_requests_total", "home", host, status] >= 1
    count = found["zerotrust_request_duration_seconds_count", "home", APP]
    assert 1 <= found["zerotrust_request_first_byte_seconds_count", "home", APP] <= count


async def test_without_outputs_no_request_is_recorded(chain: Chain) -> None:
    ingress = chain.server.server.proxy.ingress
    assert ingress.observers
    await chain.use(metrics={})
    assert ingress.observers == () and ingress.tracer is None


async def test_other_observers_stay(chain: Chain, tmp_path: Path) -> None:
    records: list[RequestRecord] = []
    ingress = chain.server.server.proxy.ingress
    ingress.observers = (*ingress.observers, records.append)
    await chain.use(access_log={"output": str(tmp_path / "log")}, metrics={})
    await chain.get(APP)
    assert len(records) == 1 and len(ingress.observers) == 2
    ingress.observers = ()


async def test_a_trace_goes_from_the_server_to_the_backend(
    chain: Chain, collector: OtlpReceiver, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    settings = {"endpoint": collector.url}
    await chain.use(tracing=settings, access_log={"output": str(path)})
    await chain.use_at_agent(tracing=settings)
    await chain.get(APP, "/", ("traceparent", PARENT), ("tracestate", "a=1"))
    await eventually(lambda: len(collector.spans) == 2, "both spans have come")
    (server,), (agent,) = collector.of("0trust-server"), collector.of("0trust-agent")
    assert server.parent == "" and server.trace not in PARENT
    assert (agent.trace, agent.parent) == (server.trace, server.id)
    assert agent.attributes["zerotrust.upstream"] == f"127.0.0.1:{chain.backend.port}"
    assert (agent.name, agent.kind) == (f"GET {APP}", 3)
    assert chain.backend.traceparent == f"00-{server.trace}-{agent.id}-01".encode()
    assert server.seconds >= agent.seconds > 0
    await eventually(lambda: bool(lines(path)), "the line is written")
    assert lines(path)[0]["trace"] == server.trace

    async def counted() -> bool:
        return (await chain.read())["zerotrust_trace_spans_total", "sent"] == 1

    await eventually(counted, "the sent span is counted")
    found = await chain.read()
    assert ("zerotrust_access_log_lines_lost_total", "queue") in found


async def test_a_trusted_trace_goes_on(chain: Chain, collector: OtlpReceiver) -> None:
    await chain.use(tracing={"endpoint": collector.url, "trust_traceparent": True, "sample": 0})
    await chain.get(APP, "/", ("traceparent", PARENT))
    await eventually(lambda: len(collector.spans) == 1, "the span has come")
    (server,) = collector.spans
    assert (server.trace, server.parent) == (PARENT[3:35], PARENT[36:52])
    # The agent makes no spans: the backend sees the server's.
    assert chain.backend.traceparent == f"00-{server.trace}-{server.id}-01".encode()


async def test_an_agent_alone_makes_spans(chain: Chain, collector: OtlpReceiver) -> None:
    await chain.use_at_agent(tracing={"endpoint": collector.url})
    await chain.get(DOWN)
    await eventually(lambda: len(collector.spans) == 1, "the span has come")
    (agent,) = collector.spans
    assert agent.failed and agent.attributes["error.type"] == "upstream_unreachable"
    assert "http.response.status_code" not in agent.attributes


async def test_what_is_not_sampled_is_not_sent(chain: Chain, collector: OtlpReceiver) -> None:
    settings = {"endpoint": collector.url, "sample": 0}
    await chain.use(tracing=settings)
    await chain.use_at_agent(tracing=settings)
    await chain.get(APP)
    assert chain.backend.traceparent.endswith(b"-00")
    await chain.use()
    await chain.use_at_agent(tracing={})
    assert collector.spans == []


async def test_without_tracing_a_traceparent_passes(chain: Chain) -> None:
    await chain.get(APP, "/", ("traceparent", PARENT))
    assert chain.backend.traceparent == PARENT.encode()
