"""Tests of zerotrust.config.reload."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import structlog

from zerotrust.config import file_watcher
from zerotrust.config.diff import Changes
from zerotrust.config.load import load_agent, reload_agent
from zerotrust.config.reload import Reloader, certificates
from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.server import ServerConfig
from zerotrust.net.tasks import Tasks

TEXT = """
agent_id: a
server: {cert: a.crt, key: a.key, ca_cert: ca.crt}
hot_reload: {debounce_delay: 10ms}
services:
  - {id: one, hostname: one.example.com, backend: "x:1"}
  - {id: two, hostname: two.example.com, backend: "x:2"}
"""


class Component:
    """Stand-in for an agent or server that a reloader configures."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "agent.yaml"
        self.path.write_text(TEXT)
        for name in ("a.crt", "a.key", "ca.crt"):
            (folder / name).write_text(name)
        self.applied: list[Changes] = []
        self.told = asyncio.Event()
        self.refuse: str | None = None
        self.tasks = Tasks()
        self.reloader = Reloader(
            load_agent(self.path),
            read=lambda last: reload_agent(self.path, last),
            apply=self.apply,
            tasks=self.tasks,
        )

    async def apply(self, config: AgentConfig, changes: Changes) -> Sequence[str]:
        if self.refuse is not None:
            raise PkiError(self.refuse)
        self.applied.append(changes)
        self.told.set()
        return ["agent_id: for a restart"] if "agent_id" in changes.keys else []

    def write(self, old: str, new: str) -> None:
        assert old in TEXT
        self.path.write_text(TEXT.replace(old, new))

    async def reload(self) -> list[dict[str, object]]:
        with structlog.testing.capture_logs() as lines:
            await self.reloader.reload()
        return [dict(line) for line in lines]


def run(tmp_path: Path, scenario: Callable[[Component], Awaitable[None]]) -> None:
    async def play() -> None:
        component = Component(tmp_path)
        try:
            await scenario(component)
        finally:
            await component.tasks.close()

    asyncio.run(play())


def test_changes_are_applied_and_logged_in_one_line(tmp_path: Path) -> None:
    async def scenario(it: Component) -> None:
        it.write("x:2", "y:2")
        [line] = await it.reload()
        assert it.applied == [Changes(changed=("two",))]
        assert line == {
            "event": "configuration reloaded",
            "log_level": "info",
            "changes": "changed two",
            "waiting": None,
        }
        it.write("agent_id: a", "agent_id: b")
        [line] = await it.reload()
        assert line["changes"] == "changed two; settings agent_id"
        assert line["waiting"] == ["agent_id: for a restart"]

    run(tmp_path, scenario)


def test_an_unchanged_file_is_not_applied(tmp_path: Path) -> None:
    async def scenario(it: Component) -> None:
        [line] = await it.reload()
        assert it.applied == []
        assert line["changes"] == "nothing"

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        (TEXT[:-20], "not valid YAML"),
        (TEXT.replace("10ms", "soon"), "invalid duration"),
    ],
)
def test_an_invalid_file_changes_nothing(tmp_path: Path, text: str, reason: str) -> None:
    async def scenario(it: Component) -> None:
        before = it.reloader.config
        it.path.write_text(text)
        [line] = await it.reload()
        assert line["event"] == "configuration not reloaded, the last good one stays"
        assert reason in str(line["reason"])
        assert "\n" not in str(line["reason"])
        assert it.reloader.config is before
        assert it.applied == []

    run(tmp_path, scenario)


def test_a_failed_apply_is_repeated_with_the_next_change(tmp_path: Path) -> None:
    async def scenario(it: Component) -> None:
        it.refuse = "no such certificate"
        it.write("x:2", "y:2")
        [line] = await it.reload()
        assert line["reason"] == "no such certificate"
        it.refuse = None
        await it.reload()
        assert it.applied == [Changes(changed=("two",))]

    run(tmp_path, scenario)


def test_a_wrong_service_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    async def scenario(it: Component) -> None:
        it.path.write_text(TEXT.replace("x:2", "wrong").replace("x:1", "y:1"))
        refused, done = await it.reload()
        assert refused["event"] == "services with errors keep their last good version"
        assert f"{it.path}:7:51: services[1].backend" in str(refused["reason"])
        assert done["changes"] == "changed one"
        [again] = await it.reload()
        assert again["event"] == refused["event"]
        it.path.write_text(TEXT)
        [line] = await it.reload()
        assert line["changes"] == "changed one"

    run(tmp_path, scenario)


def test_renewed_certificates_are_a_change(tmp_path: Path) -> None:
    async def scenario(it: Component) -> None:
        (tmp_path / "a.crt").write_text("new")
        await it.reload()
        assert it.applied == [Changes(files=(str(tmp_path / "a.crt"),))]
        (tmp_path / "a.key").unlink()
        await it.reload()
        assert it.applied[1:] == [Changes(files=(str(tmp_path / "a.key"),))]

    run(tmp_path, scenario)


def test_other_certificates_are_a_change_of_settings_alone(tmp_path: Path) -> None:
    async def scenario(it: Component) -> None:
        (tmp_path / "b.crt").write_text("new")
        it.write("cert: a.crt", "cert: b.crt")
        await it.reload()
        assert it.applied == [Changes(keys=("server.cert",))]

    run(tmp_path, scenario)


async def applied(it: Component) -> Changes:
    async with asyncio.timeout(15):
        await it.told.wait()
    it.told.clear()
    return it.applied[-1]


def test_a_request_and_a_changed_file_cause_a_reload(tmp_path: Path) -> None:
    async def scenario(it: Component) -> None:
        it.tasks.spawn(it.reloader.run(), "reload")
        await asyncio.sleep(0)
        it.write("x:1", "y:1")
        it.reloader.ask()
        assert (await applied(it)).changed == ("one",)
        it.write("x:1", "z:1")
        assert (await applied(it)).changed == ("one",)
        (tmp_path / "a.crt").write_text("renewed")
        assert (await applied(it)).files == (str(tmp_path / "a.crt"),)

    run(tmp_path, scenario)


def test_what_is_watched_follows_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[tuple[list[str], float]] = []

    async def changes(files: Sequence[Path], *, delay: float) -> AsyncGenerator[None, None]:
        watched.append(([file.name for file in files], delay))
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(file_watcher, "changes", changes)
    everything = ["agent.yaml", "a.crt", "a.key", "ca.crt"]

    async def scenario(it: Component) -> None:
        it.tasks.spawn(it.reloader.run(), "reload")
        for settings in (
            "watch_certs: false",
            "watch_config: false",
            "enabled: false",
            "debounce_delay: 2s",
        ):
            it.write("debounce_delay: 10ms", settings)
            it.reloader.ask()
            await applied(it)
            await asyncio.sleep(0)  # the former watch ends, the next begins

    run(tmp_path, scenario)
    assert watched == [
        (everything, 0.01),
        (["agent.yaml"], 0.5),
        (everything[1:], 0.5),
        (everything, 2.0),
    ]


def test_signals(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1)}

    async def scenario(it: Component) -> None:
        it.tasks.spawn(it.reloader.run(), "reload")
        await asyncio.sleep(0)
        quiet = TEXT.replace("debounce_delay: 10ms", "enabled: false, reload_signal: sigusr1")
        for number, backend in (
            (signal.SIGHUP, "x:1"),
            (signal.SIGUSR1, "y:1"),
            (signal.SIGHUP, "z:1"),
        ):
            it.path.write_text(quiet.replace("x:1", backend))
            os.kill(os.getpid(), number)
            await applied(it)
            await asyncio.sleep(0)  # it listens to the signals that are named now
        assert [(changes.changed, changes.keys) for changes in it.applied[1:]] == [
            (("one",), ()),
            (("one",), ()),
        ]
        it.path.write_text(TEXT)
        it.reloader.ask()
        await applied(it)
        await asyncio.sleep(0)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN

    try:
        run(tmp_path, scenario)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_failing_watcher_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def changes(files: Sequence[Path], *, delay: float) -> AsyncGenerator[None, None]:
        raise OSError(28, "inotify watch limit reached")
        yield

    monkeypatch.setattr(file_watcher, "changes", changes)

    async def scenario(it: Component) -> None:
        with structlog.testing.capture_logs() as lines:
            it.tasks.spawn(it.reloader.run(), "reload")
            it.write("x:1", "y:1")
            it.reloader.ask()
            await applied(it)
        assert lines[0]["event"] == "cannot watch files; send SIGHUP after a change"
        assert lines[0]["reason"] == "inotify watch limit reached"

    run(tmp_path, scenario)


def test_certificates_of_both_ends() -> None:
    assert [path.name for path in certificates(AgentConfig())] == [
        "agent.crt",
        "agent.key",
        "ca.crt",
    ]
    assert [path.name for path in certificates(ServerConfig())] == [
        "server.crt",
        "server.key",
        "ca.crt",
    ]
    services = [
        {
            "hostname": name,
            "backend": "x:1",
            "tls": {"ca_file": "/ca", "client_cert_file": f"/{name}"},
        }
        for name in "bc"
    ]
    own = AgentConfig.model_validate({"services": services})
    assert [path.name for path in certificates(own)][3:] == ["ca", "b", "c"]
