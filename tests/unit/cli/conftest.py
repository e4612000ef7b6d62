"""Fixtures for commands: an admin API in a thread, and components that only record."""

import signal
from collections.abc import Callable, Coroutine, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import typer.main
from structlog.testing import capture_logs

from tests.support.access_parts import StandingParts, add_sign_in
from tests.support.identities import DirectoryServer, served
from zerotrust.cli.main import status
from zerotrust.model.access import Access
from zerotrust.telemetry import logs


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DirectoryServer]:
    with capture_logs(), served(tmp_path) as made:
        yield made


ACCESS: dict[str, Any] = {
    "auth_host": "auth.example.com",
    "users": [{"name": "carla", "groups": ["family"]}],
    "rules": [
        {
            "hosts": ["photos.example.com"],
            "allow": [{"group": "family"}, {"machine": "fr*"}],
            "links": True,
        },
        {"hosts": ["party.example.com"], "allow": [{"pin": True}]},
        {
            "hosts": ["lan.example.com"],
            "allow": "signed_in",
            "require": [{"ip": "10.0.0.0/8"}],
        },
    ],
}


@pytest.fixture
def with_access(server: DirectoryServer) -> None:
    """Let the server's file have a section `access`."""
    server.access = StandingParts(server.database, Access.model_validate(ACCESS))


@pytest.fixture(scope="session", autouse=True)
def _commands_are_built_once() -> Iterator[None]:
    """Keep the commands: typer builds all of them at each call, a quarter of the time of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


SignIn = Callable[..., int]


@pytest.fixture
def sign_in(server: DirectoryServer) -> SignIn:
    """Add a sign-in of a user; return its number."""
    return partial(add_sign_in, server.database)


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(server: DirectoryServer, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command against the server; return exit status, output and error output."""

    def run(*words: Any) -> tuple[int, str, str]:
        code = status([*map(str, words), "--socket", str(server.socket)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """Calls of `serve` of both components, which return at once, and of `logs.configure`."""
    calls: list[tuple[Any, ...]] = []

    async def serve(*args: Any) -> None:
        calls.append(args)

    def run(main: Coroutine[Any, Any, None]) -> None:
        with pytest.raises(StopIteration):
            main.send(None)

    monkeypatch.setattr("zerotrust.server.app.serve", serve)
    monkeypatch.setattr("zerotrust.agent.app.serve", serve)
    monkeypatch.setattr("zerotrust.server.supervisor.supervise", serve)
    monkeypatch.setattr("zerotrust.net.loop.run", run)
    monkeypatch.setattr(logs, "configure", lambda logging: calls.append(("logs", logging)))
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    before = signal.getsignal(signal.SIGHUP)
    yield calls
    signal.signal(signal.SIGHUP, before)
