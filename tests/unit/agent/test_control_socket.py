"""Tests of zerotrust.agent.control_socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from zerotrust.agent.control_socket import (
    DRAIN,
    MAX_CONNECTIONS,
    ControlSocket,
    control_path,
    request_drain,
    request_status,
)
from zerotrust.errors import SetupError
from zerotrust.model.status import AgentStatus, ServiceStatus, SessionStatus, UpstreamStatus

pytestmark = pytest.mark.anyio

STATUS = AgentStatus(
    agent="home",
    software="1",
    sessions=[SessionStatus(id="0123abcd", server="192.0.2.7:8443", streams=3)],
    services=[
        ServiceStatus(
            id="web",
            hosts=["a.example"],
            upstreams=[UpstreamStatus(address="10.0.0.1:80", state="ejected", requests=2)],
        )
    ],
)


class Asked:
    def __init__(self) -> None:
        self.times = 0
        self.control = ControlSocket(self.drain, lambda: STATUS)

    def drain(self) -> None:
        self.times += 1


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    made = Asked()
    await made.control.listen(tmp_path / "agent.sock")
    yield made
    await made.control.close()


async def test_drain_requests_wait_and_drain_once(asked: Asked, tmp_path: Path) -> None:
    first, second = (asyncio.create_task(request_drain(tmp_path / "agent.sock")) for _ in range(2))
    await eventually(lambda: asked.times, "it is told")
    _, writer = await asyncio.open_unix_connection(tmp_path / "agent.sock")
    writer.write(DRAIN)
    await writer.drain()
    assert not first.done()
    assert not second.done()
    assert asked.times == 1
    writer.close()
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_a_draining_agent_is_not_drained_again(asked: Asked, tmp_path: Path) -> None:
    asked.control.draining()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "agent.sock")
    writer.write(DRAIN[:3])
    await writer.drain()
    writer.write(DRAIN[3:] + b"!")
    assert await reader.read() == b"", "what follows is not understood"
    assert not asked.times
    writer.close()


async def test_each_client_gets_the_status(asked: Asked, tmp_path: Path) -> None:
    assert await request_status(tmp_path / "agent.sock") == STATUS
    assert await request_status(tmp_path / "agent.sock") == STATUS
    assert not asked.times


@pytest.mark.parametrize("said", [b"", b'{"agent": 7}', b"not json"])
async def test_an_answer_of_another_version_raises(tmp_path: Path, said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    other = await asyncio.start_unix_server(answer, tmp_path / "agent.sock")
    with pytest.raises(SetupError, match="has another version"):
        await request_status(tmp_path / "agent.sock")
    other.close()


async def test_a_silent_agent_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr("zerotrust.agent.control_socket.ANSWER_TIMEOUT", 0.05)
    silent = await asyncio.start_unix_server(nothing, tmp_path / "agent.sock")
    with pytest.raises(SetupError, match="did not answer within"):
        await request_status(tmp_path / "agent.sock")
    silent.close()


@pytest.mark.parametrize("said", [b"x", b"drain now\n", bytes(100_000)])
async def test_an_unknown_request_closes_the_connection(
    asked: Asked, tmp_path: Path, said: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(tmp_path / "agent.sock")
    writer.write(said)
    with contextlib.suppress(ConnectionError):  # it did not read it all
        assert await reader.read() == b""
    assert not asked.times
    writer.close()


async def test_the_socket_has_mode_0600_and_is_removed(asked: Asked, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    await asked.control.close()
    assert not path.exists()


async def test_no_agent_raises(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no agent runs with this configuration"):
        await request_drain(tmp_path / "agent.sock")
    (tmp_path / "agent.sock").mkdir()
    with pytest.raises(SetupError, match=r"agent\.sock: "):
        await request_drain(tmp_path / "agent.sock")


async def test_a_missing_folder_is_no_error(tmp_path: Path) -> None:
    control = ControlSocket(lambda: None, lambda: STATUS)
    await control.listen(tmp_path / "none" / "agent.sock")
    await control.close()


def test_path_of_the_socket() -> None:
    assert control_path(Path("/config/agent.yaml")) == Path("/config/agent.sock")
    assert control_path(Path("home.yml")).is_absolute()


async def test_silent_connections_are_closed_for_new_ones(asked: Asked, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    waiting = asyncio.create_task(request_drain(path))
    await eventually(lambda: asked.times, "it is told")
    silent = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS + 5)]
    assert await request_status(path) == STATUS
    ended = [asyncio.create_task(reader.read()) for reader, _ in silent]
    await asyncio.wait_for(asyncio.gather(*ended[:6]), 5)
    assert len(asked.control.connections) <= MAX_CONNECTIONS
    assert not any(task.done() for task in (waiting, *ended[7:]))
    for task in (waiting, *ended):
        task.cancel()
    await asyncio.gather(waiting, *ended, return_exceptions=True)
    for _, writer in silent:
        writer.close()


async def test_waiting_connections_are_kept_at_the_limit(asked: Asked, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    waiting = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS)]
    for _, writer in waiting:
        writer.write(DRAIN)
    await eventually(
        lambda: all(one.has_request for one in asked.control.connections), "all have asked"
    )
    assert len(asked.control.connections) == MAX_CONNECTIONS
    reader, writer = await asyncio.open_unix_connection(path)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    for _, one in (*waiting, (reader, writer)):
        one.close()
    await eventually(lambda: not asked.control.connections, "all have ended")
