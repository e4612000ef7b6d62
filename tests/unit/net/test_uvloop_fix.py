"""Tests of zerotrust.net.uvloop_fix."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator

import aiofastnet
import pytest

from zerotrust.net.loop import run
from zerotrust.net.uvloop_fix import WatchingLoop

AT_ONCE = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TCP connection; unix sockets have no resets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    with near, far:
        yield near, far


def reset(far: socket.socket, last: bytes) -> None:
    """Send data and a reset, before the loop polls."""
    far.send(last)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    far.close()


@pytest.fixture
def loop() -> Iterator[WatchingLoop]:
    loop = WatchingLoop()
    yield loop
    loop.close()


async def turns(loop: WatchingLoop, number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
        await loop.run_in_executor(None, lambda: None)  # the loop looks at its descriptors


class Listening(asyncio.Protocol):
    """Records the received bytes and the end of the connection."""

    def __init__(self) -> None:
        self.said = b""
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.said += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)


@pytest.mark.parametrize(
    "last", [b"", b"last words", bytes(1_000_000)], ids=["alone", "behind some", "behind much"]
)
def test_a_reset_behind_data_is_reported(last: bytes) -> None:
    told: list[Exception | None] = []

    async def main() -> None:
        with pair() as (near, far):
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
            _, protocol = await asyncio.get_running_loop().create_connection(Listening, sock=near)
            reset(far, last)
            async with asyncio.timeout(20):
                told.append(await protocol.ended)

    run(main())
    assert isinstance(told[0], ConnectionResetError)


def test_a_reader_is_called_until_it_has_taken_the_error(loop: WatchingLoop) -> None:
    got: list[object] = []

    def ready(near: socket.socket, size: int) -> None:
        try:
            got.append(near.recv(size))
        except OSError as error:
            got.append(type(error))
            loop.remove_reader(near)

    with pair() as (near, far):
        reset(far, b"abcdef")
        loop.add_reader(near, ready, near, 2)
        loop.run_until_complete(turns(loop, 10))
    assert got == [b"ab", b"cd", b"ef", ConnectionResetError]


@pytest.mark.parametrize("leave_at", [1, 2])
def test_a_removed_reader_is_not_called_again(loop: WatchingLoop, leave_at: int) -> None:
    calls = 0

    def ready() -> None:
        nonlocal calls
        calls += 1
        near.recv(1)
        if calls == leave_at:
            loop.remove_reader(near.fileno())

    with pair() as (near, far):
        reset(far, b"abcdef")
        loop.add_reader(near.fileno(), ready)
        loop.run_until_complete(turns(loop))
    assert calls == leave_at


def test_a_reader_removed_in_the_next_turn_is_not_called_again(loop: WatchingLoop) -> None:
    calls = 0

    def ready() -> None:
        nonlocal calls
        calls += 1
        near.recv(1)
        loop.call_soon(loop.remove_reader, near)

    with pair() as (near, far):
        reset(far, b"abcdef")
        loop.add_reader(near, ready)
        loop.run_until_complete(turns(loop))
    assert calls == 1


def test_a_second_reader_replaces_the_first(loop: WatchingLoop) -> None:
    got: list[str] = []

    def first() -> None:
        got.append("first")
        near.recv(1)
        loop.add_reader(near, second)

    def second() -> None:
        got.append("second")
        with contextlib.suppress(ConnectionResetError):
            if near.recv(100):
                return
        loop.remove_reader(near)

    with pair() as (near, far):
        reset(far, b"abcdef")
        loop.add_reader(near, first)
        loop.run_until_complete(turns(loop, 10))
    assert got == ["first", "second", "second"]


def test_an_open_watch_ends_with_the_loop(
    loop: WatchingLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    with pair() as (near, _):
        loop.add_reader(near, near.recv, 1)
        loop.run_until_complete(turns(loop, 1))
        loop.close()
    assert capsys.readouterr().err == ""


def test_a_peer_that_leaves_in_a_handshake_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with pair() as (near, far):
            far.close()
            with pytest.raises(ConnectionResetError):
                await aiofastnet.connect_accepted_socket(
                    asyncio.get_running_loop(), asyncio.Protocol, near, ssl=context
                )

    run(main())
    assert not caplog.records


def test_a_socket_that_is_ready_for_a_cancelled_future_is_no_fault(
    loop: WatchingLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        ready = loop.create_future()
        with pair() as (near, far):
            loop.add_reader(near, ready.set_result, None)
            far.send(b"late")
            ready.cancel()
            await turns(loop)
            loop.remove_reader(near)

    loop.run_until_complete(main())
    assert not caplog.records


def test_a_second_result_is_logged(loop: WatchingLoop, caplog: pytest.LogCaptureFixture) -> None:
    done = loop.create_future()
    done.set_result(1)
    loop.call_soon(lambda: done.set_result(2))
    loop.run_until_complete(turns(loop))
    assert "invalid state" in caplog.text


def test_other_faults_are_logged(loop: WatchingLoop, caplog: pytest.LogCaptureFixture) -> None:
    loop.call_exception_handler({"message": "a fault", "exception": ConnectionResetError()})
    assert [record.getMessage() for record in caplog.records] == ["a fault"]
