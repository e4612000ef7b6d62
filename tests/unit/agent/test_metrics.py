"""Tests of zerotrust.agent.metrics."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.support.client import Client
from tests.support.inprocess_stack import Backend, RunningServer, StackFiles, dialling, serving
from tests.support.metrics import Read, read
from tests.support.ports import closed_port, free_port
from tests.support.waiting import eventually
from zerotrust.agent.metrics import AGENT_LIMITS
from zerotrust.model.agent import AgentConfig

pytestmark = pytest.mark.anyio

APP, DOWN = "app.example.com", "down.example.com"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StackFiles:
    return StackFiles(tmp_path_factory.mktemp("stack"))


@pytest.fixture
async def server(files: StackFiles) -> AsyncIterator[RunningServer]:
    async with serving(files) as server:
        yield server


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend("b").listening() as backend:
        yield backend


def config(files: StackFiles, backend: Backend, **sections: dict[str, object]) -> AgentConfig:
    down = {
        "address": f"127.0.0.1:{closed_port()}",
        "health_check": {"path": "/", "interval": "1s"},
    }
    limited = {"address": f"127.0.0.1:{backend.port}", "max_connections": 1}
    return files.agent(
        {"id": "app", "hostname": APP, "upstreams": [limited]},
        {
            "id": "down",
            "hostname": DOWN,
            "upstreams": [down],
            "load_balancing": {"health_check_required": True},
        },
        **sections,
    )


async def test_metrics_of_an_agent(
    files: StackFiles, server: RunningServer, backend: Backend
) -> None:
    port = free_port()
    async with dialling(config(files, backend)) as running:
        await running.agent.metrics.listen(f"127.0.0.1:{port}")

        async def served() -> bool:
            return await server.status(APP) == 200

        await eventually(served, "the service is published")
        assert await server.status(DOWN) in (502, 503)
        async with await server.open(APP) as first, await server.open(APP) as second:
            await first.send_head("GET", "/wait")
            await eventually(lambda: backend.waiting == 1, "a request is at the backend")
            await second.send_head("GET", "/")

            async def waits() -> Read | None:
                found = await read(port)
                return found if found["zerotrust_requests_queued", "app"] == 1 else None

            found = await eventually(waits, "the other one waits for it")
            assert found is not None
            assert found["zerotrust_sessions", "attached"] == 1
            assert found["zerotrust_streams"] == 2
            assert found["zerotrust_backend_connections", "app", "busy"] == 1
            assert found["zerotrust_backend_connections", "app", "idle"] == 0
            assert found["zerotrust_upstreams", "app", "healthy"] == 1
            assert (
                sum(
                    found["zerotrust_upstreams", "down", state]
                    for state in ("healthy", "unhealthy")
                )
                == 1
            )
            assert sum(found["zerotrust_requests_failed_total", code] for code in CODES) == 1
            assert found["zerotrust_requests_total"] >= 4
            assert found["zerotrust_session_bytes", "kept"] > 0
            backend.go.set()
            assert (
                (await first.read_response()).status == (await second.read_response()).status == 200
            )

        async def at_rest() -> bool:
            found = await read(port)
            return (
                found["zerotrust_backend_connections", "app", "busy"]
                == found["zerotrust_streams"]
                == 0
            )

        await eventually(at_rest, "nothing runs any more")


CODES = ("upstream_unreachable", "upstreams_down")


async def test_uncounted_services_have_no_labels(files: StackFiles, backend: Backend) -> None:
    port = free_port()
    service = {"hostname": APP, "backend": f"127.0.0.1:{backend.port}"}
    quiet = {**service, "id": "quiet", "hostname": DOWN, "monitoring": {"metrics_enabled": False}}
    async with dialling(files.agent({**service, "id": "app"}, quiet)) as running:
        await running.agent.metrics.listen(f"127.0.0.1:{port}")
        found = await read(port)
        assert ("zerotrust_backend_connections", "app", "idle") in found
        assert not [labels for labels in found if "quiet" in labels]


async def test_limits_and_health(files: StackFiles, backend: Backend) -> None:
    port = free_port()
    async with contextlib.AsyncExitStack() as after, dialling(config(files, backend)) as running:
        await running.agent.metrics.listen(f"127.0.0.1:{port}")
        found = await read(port)
        assert {name: found["zerotrust_limit", name] for name in AGENT_LIMITS} == AGENT_LIMITS
        assert await health(port) == "disconnected"
        await after.enter_async_context(serving(files))
        await eventually(lambda: connected(port), "the agent is connected")


async def health(port: int) -> object:
    async with await Client.open(port, host="localhost") as client:
        return (await client.get("/healthz")).json()["status"]


async def connected(port: int) -> bool:
    return await health(port) == "ok"


async def test_the_address_changes_with_the_file(
    files: StackFiles, server: RunningServer, backend: Backend
) -> None:
    port = free_port()
    async with dialling(config(files, backend)) as running:
        await running.change(config(files, backend, metrics={"listen_addr": f"127.0.0.1:{port}"}))
        await eventually(lambda: connected(port), "the agent is connected")
        await running.change(config(files, backend))
        with pytest.raises(ConnectionRefusedError):
            await read(port)
