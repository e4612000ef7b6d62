"""One stack per test worker, shared by the modules that do not change it."""

from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.backends import Origin, UnresponsivePort, WsEcho
from tests.support.databases import empty_url as url
from tests.support.databases import postgresql
from tests.support.entrypoint import Entrypoint
from tests.support.ports import closed_port
from tests.support.stack import Authority, Stack, service

__all__ = ["postgresql", "url"]

LOG_LINES = 40
"""Lines of each log that the report of a failed test shows."""

APP = "app.localhost"
WS = "ws.localhost"
PLAIN = "plain.localhost"
DOWN = "down.localhost"
HURRIED = "hurried.localhost"
CLOGGED = "clogged.localhost"
MORTAL = "mortal.localhost"
RECORDED = "myapp.localhost"


@dataclass
class Parts:
    """The shared stack and its backends."""

    stack: Stack
    origin: Origin
    ws: WsEcho
    recorder: Origin
    """Backend of RECORDED, which records every request."""
    mortal_port: int
    """Backend of MORTAL, which tests start and stop."""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
async def parts(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Parts]:
    """The shared stack, with a service for every kind of backend."""
    folder: Path = tmp_path_factory.mktemp("shared")
    clogged, mortal_port = UnresponsivePort(), closed_port()
    async with (
        Origin(folder) as origin,
        Origin(folder, "--record") as recorder,
        WsEcho(folder) as ws,
    ):
        services = [
            service(APP, origin.port),
            service(WS, ws.port, websocket=True),
            service(PLAIN, origin.port, websocket=False),
            service(DOWN, closed_port()),
            service(HURRIED, origin.port, timeout="1s"),
            service(CLOGGED, clogged.port, timeout="1s"),
            service(MORTAL, mortal_port),
            service(RECORDED, recorder.port),
        ]
        async with Stack(folder, authority, agents={"agent-1": services}, level="debug") as stack:
            yield Parts(stack, origin, ws, recorder, mortal_port)
    clogged.close()


@pytest.fixture
def stack(parts: Parts) -> Stack:
    return parts.stack


@pytest.fixture
def origin(parts: Parts) -> Origin:
    return parts.origin


@pytest.fixture(params=["caddy", "api"])
def entrypoint(request: pytest.FixtureRequest, stack: Stack) -> Entrypoint:
    """The entry point: through Caddy, and directly at the server."""
    found: Entrypoint = getattr(stack, request.param)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each log in a failed test's folder to the test's report."""
    report = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and folder is not None:
        for log in sorted(folder.rglob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            report.sections.append((f"end of {log.name}", "\n".join(lines[-LOG_LINES:])))
    return report
