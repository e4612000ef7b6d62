"""Tests of zerotrust.server.supervisor, with small programs as workers."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.ports import free_port
from tests.support.waiting import eventually
from zerotrust.config import diff
from zerotrust.config.load import Loaded
from zerotrust.errors import SetupError
from zerotrust.model.server import ServerConfig
from zerotrust.net.tasks import Tasks
from zerotrust.server import supervisor
from zerotrust.server.identity.accepted_config import AcceptedConfig
from zerotrust.server.supervisor import Supervisor

pytestmark = pytest.mark.anyio

WORKER = """#!{python} -SE
import os, signal, socket, sys, time

index, count, descriptor, config = os.environ["ZEROTRUST_WORKER"].split("/")
folder = "{folder}"

def note(word):
    with open(folder + "/notes", "a") as file:
        file.write(word + index + " ")

def mark():
    return bytes([int(os.pread(int(config), 60, 40).split(b",")[0][11:])])

def reload(*_):
    refuses = os.path.exists(folder + "/refuses" + index)
    if refuses:
        os.unlink(folder + "/refuses" + index)
    note("refuse" if refuses else "reload")
    channel.send((b"n" if refuses else b"y") + mark())

if os.path.exists(folder + "/broken" + index):
    sys.exit(3)
signal.signal(signal.SIGHUP, reload)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if os.path.exists(folder + "/stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.path.exists(folder + "/busy"):
    def drain(*_):
        signal.signal(signal.SIGTERM, lambda *_: (note("broken"), sys.exit(0)))
        signal.signal(signal.SIGALRM, lambda *_: os.path.exists(folder + "/busy") or sys.exit(0))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        note("drain")
    signal.signal(signal.SIGTERM, drain)
started_with = mark()
path = folder + "/pid" + index
with open(path + ".new", "w") as file:
    file.write(str(os.getpid()))
os.replace(path + ".new", path)
channel = socket.socket(fileno=int(descriptor))
while os.path.exists(folder + "/slow" + index):
    time.sleep(0.01)
channel.send(b"r" + started_with)
while True:
    name, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    if not name:
        break
    with socket.socket(fileno=descriptors[0]) as connection:
        if name == b"t":
            connection.recv(100)
        connection.sendall(index.encode() + name)
"""


class Scenario:
    """A server of two workers; each answers a connection with its number and the listener."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "state").mkdir()
        self.agents, self.metrics = free_port(), free_port()
        self.tasks = Tasks()
        self.config = self.configure()
        self.loaded = Loaded(self.config, (), contents={"server.yaml": b"first"})
        self.supervisor = Supervisor(
            self.loaded, self.tasks, ["server", "run"], read=lambda _: self.loaded
        )

    def configure(self, **sections: Any) -> ServerConfig:
        return ServerConfig.model_validate(
            {
                "server": {"workers": 2, "listen_addr": f"127.0.0.1:{self.agents}"},
                "api": {"listen_addr": "unix:/run/api"},
                "caddy": {"mode": "none"},
                "metrics": {"listen_addr": f"127.0.0.1:{self.metrics}"},
                "state": {"dir": str(self.folder / "state")},
                "hot_reload": {"drain_timeout": "1s"},
                **sections,
            }
        )

    async def change(self, **sections: Any) -> list[str]:
        config = self.configure(**sections)
        self.loaded = Loaded(config, (), contents={"server.yaml": repr(sections).encode()})
        self.supervisor.read(self.config)
        waiting = await self.supervisor.apply(config, diff.compare(self.config, config))
        self.config = config
        return waiting

    async def ask(self, port: int | None = None, *, first: bytes = b"") -> bytes:
        """Return what a connection to a port, or to the admin socket, is answered."""
        opening = (
            asyncio.open_unix_connection(str(self.folder / "state" / "admin.sock"))
            if port is None
            else asyncio.open_connection("127.0.0.1", port)
        )
        reader, writer = await opening
        try:
            writer.write(first)
            async with asyncio.timeout(20):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def accepted(self) -> bytes:
        """Return what the workers read."""
        return AcceptedConfig(self.supervisor.accepted.descriptor).read().contents["server.yaml"]

    def pid(self, worker: int) -> int:
        return int((self.folder / f"pid{worker}").read_text())

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return sorted(path.read_text().split()) if path.exists() else []


@pytest.fixture
async def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scenario]:
    program = tmp_path / "worker"
    program.write_text(WORKER.format(python=sys.executable, folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setattr(supervisor.sys, "executable", str(program))  # type: ignore[attr-defined]
    made = Scenario(tmp_path)
    yield made
    await made.supervisor.close()
    await made.tasks.close()


async def test_connections_go_to_the_first_worker_that_serves(scenario: Scenario) -> None:
    await scenario.supervisor.start()
    assert [await scenario.ask(), await scenario.ask(scenario.metrics)] == [b"0a", b"0m"]
    assert await scenario.ask(scenario.agents, first=b"GET / HTTP/1.1\r\n\r\n") == b"0t"

    first, second = scenario.pid(0), scenario.pid(1)
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: not scenario.supervisor.workers[0].serving, "it has noticed")
    assert await scenario.ask() == b"1a"
    await eventually(lambda: scenario.supervisor.workers[0].serving, "it starts again")
    assert await scenario.ask() == b"0a"
    assert scenario.pid(0) != first and scenario.pid(1) == second


async def test_a_worker_that_does_not_exist_gets_no_connection(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scenario.supervisor.start()
    for named, answer in ((1, b"1t"), (2, b"")):
        monkeypatch.setattr("zerotrust.net.descriptor_passing.wanted_worker", lambda _, n=named: n)
        first = b"\x16\x03\x01\x00\x04abcd"
        assert await scenario.ask(scenario.agents, first=first) == answer


async def test_all_workers_reload_after_the_parent(scenario: Scenario) -> None:
    await scenario.supervisor.start()
    former, scenario.metrics = scenario.metrics, free_port()
    assert await scenario.change() == []
    assert scenario.notes() == ["reload0", "reload1"]
    assert await scenario.ask(scenario.metrics) == b"0m"
    with pytest.raises(ConnectionRefusedError):
        await scenario.ask(former)

    taken = {"listen_addr": f"127.0.0.1:{scenario.agents}"}
    with pytest.raises(SetupError, match=r"metrics\.listen_addr"):
        await scenario.change(metrics=taken)
    assert scenario.notes() == ["reload0", "reload1"]
    assert await scenario.ask(scenario.metrics) == b"0m"

    more = {"workers": 3, "listen_addr": f"127.0.0.1:{scenario.agents}"}
    waiting = await scenario.change(
        server=more, metrics={"listen_addr": None}, logging={"level": "warn"}
    )
    assert waiting == ["server.workers: needs a restart of the server"]
    with pytest.raises(ConnectionRefusedError):
        await scenario.ask(scenario.metrics)


async def test_what_the_first_worker_refuses_is_in_force_nowhere(scenario: Scenario) -> None:
    await scenario.supervisor.start()
    before = scenario.pid(0), scenario.pid(1)
    (scenario.folder / "refuses0").touch()
    former, scenario.metrics = scenario.metrics, free_port()
    with pytest.raises(SetupError, match="worker 0 cannot apply it"):
        await scenario.change(limits={"requests": 7})
    assert scenario.notes() == ["refuse0", "reload0"], "it goes back, and the other one stays"
    assert scenario.accepted() == b"first"
    assert await scenario.ask(former) == b"0m"
    assert (scenario.pid(0), scenario.pid(1)) == before


async def test_a_worker_that_refuses_what_others_apply_is_restarted(scenario: Scenario) -> None:
    await scenario.supervisor.start()
    before = scenario.pid(0), scenario.pid(1)
    (scenario.folder / "refuses1").touch()
    await scenario.change(limits={"requests": 7})
    assert scenario.notes() == ["refuse1", "reload0"]
    await eventually(lambda: scenario.pid(1) != before[1], "another process", 20)
    await eventually(lambda: scenario.supervisor.workers[1].serving, "it serves", 20)
    assert scenario.notes() == ["refuse1", "reload0"], "it has read what the others have"
    assert b"7" in scenario.accepted()
    assert scenario.pid(0) == before[0]


async def test_a_worker_that_starts_meanwhile_applies_what_it_has_missed(
    scenario: Scenario,
) -> None:
    await scenario.supervisor.start()
    (slow := scenario.folder / "slow1").touch()
    former = scenario.pid(1)
    os.kill(former, signal.SIGKILL)
    await eventually(lambda: scenario.pid(1) != former, "it starts again", 20)
    await scenario.change(limits={"requests": 7})
    assert scenario.notes() == ["reload0"]
    slow.unlink()
    await eventually(lambda: scenario.supervisor.workers[1].serving, "it serves", 20)
    assert scenario.notes() == ["reload0", "reload1"]


async def test_workers_are_restarted_one_after_the_other(scenario: Scenario) -> None:
    await scenario.supervisor.start()
    before = scenario.pid(0), scenario.pid(1)
    scenario.supervisor.ask_restart()
    scenario.supervisor.ask_restart()
    await eventually(lambda: scenario.pid(1) != before[1], "the last one is restarted", 20)
    await eventually(lambda: scenario.supervisor.workers[1].serving, "it serves")
    assert scenario.pid(0) != before[0]
    assert await scenario.ask() == b"0a"


@pytest.mark.slow
async def test_a_rolling_restart_stops_at_a_worker_that_does_not_start(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "START_TIMEOUT", 1.0)
    await scenario.supervisor.start()
    second = scenario.pid(1)
    (broken := scenario.folder / "broken0").touch()
    with capture_logs() as lines:
        scenario.supervisor.ask_restart()
        await eventually(lambda: not scenario.supervisor.workers[0].serving, "it ends")
        assert await scenario.ask() == b"1a"
        await eventually(
            lambda: any("not restarted" in line["event"] for line in lines), "it gives up"
        )
    broken.unlink()
    await eventually(lambda: scenario.supervisor.workers[0].serving, "it starts again", 20)
    assert scenario.pid(1) == second


async def test_a_server_whose_worker_does_not_start_ends(scenario: Scenario) -> None:
    (scenario.folder / "broken1").touch()
    with pytest.raises(SetupError, match="worker 1 did not start"):
        await scenario.supervisor.start()


async def test_a_program_that_cannot_be_run(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor.sys, "executable", "/no/such/program")  # type: ignore[attr-defined]
    with pytest.raises(SetupError, match="worker 0 cannot be started"):
        await scenario.supervisor.start()


@pytest.mark.slow
async def test_a_worker_that_does_not_end_is_killed(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FAREWELL", 0.1)
    (scenario.folder / "stubborn").touch()
    await scenario.supervisor.start()
    await scenario.supervisor.drain()
    for worker in range(2):
        with pytest.raises(ProcessLookupError):
            os.kill(scenario.pid(worker), 0)


async def test_a_worker_that_drains_is_not_told_again(scenario: Scenario) -> None:
    (busy := scenario.folder / "busy").touch()
    await scenario.supervisor.start()
    scenario.supervisor.ask_restart()
    await eventually(lambda: scenario.notes() == ["drain0"], "the first one drains")
    draining = asyncio.create_task(scenario.supervisor.drain())
    await eventually(lambda: "drain1" in scenario.notes(), "so does the other one")
    busy.unlink()
    await draining
    assert scenario.notes() == ["drain0", "drain1"]


async def test_a_second_signal_ends_workers_at_once(scenario: Scenario) -> None:
    (scenario.folder / "busy").touch()
    await scenario.supervisor.start()
    draining = asyncio.create_task(scenario.supervisor.drain())
    await eventually(lambda: len(scenario.notes()) == 2, "both drain")
    draining.cancel()
    await scenario.supervisor.close()
    assert scenario.notes() == ["broken0", "broken1", "drain0", "drain1"]
