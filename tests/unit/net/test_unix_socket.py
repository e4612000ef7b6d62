"""Tests of zerotrust.net.unix_socket."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from zerotrust.net.unix_socket import MAX_PATH_BYTES, listen_unix


def fails(path: Path) -> OSError:
    with pytest.raises(OSError) as raised:
        listen_unix(str(path), 1)
    return raised.value


def test_only_the_owner_connects_from_the_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []

    class Watched(socket.socket):
        def bind(self, address: object) -> None:
            super().bind(str(address))
            modes.append(Path(str(address)).stat().st_mode)

    monkeypatch.setattr(socket, "socket", Watched)
    before = os.umask(0)
    try:
        with listen_unix(str(tmp_path / "s"), 1):
            assert [stat.S_IMODE(mode) for mode in modes] == [0o600]
        assert os.umask(0) == 0, "the mask of before"
    finally:
        os.umask(before)


def test_a_socket_that_a_process_has_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listen_unix(str(path), 1).close()
    assert path.is_socket()
    with listen_unix(str(path), 1), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("waiting", [0, 3])
def test_a_process_that_listens_keeps_its_socket(tmp_path: Path, waiting: int) -> None:
    """Also if its queue is full."""
    path = tmp_path / "s"
    with listen_unix(str(path), 0) as listening:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(waiting)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(str(path))
        error = fails(path)
        assert (error.errno, error.strerror) == (
            errno.EADDRINUSE,
            "another process listens there",
        )
        for client in clients:
            client.close()
        with socket.socket(socket.AF_UNIX) as last:
            listening.setblocking(False)
            while listening_has(listening):
                pass
            last.connect(str(path))


def listening_has(listening: socket.socket) -> bool:
    """Accept a connection; return False if none waits."""
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    longest = tmp_path / ("s" * (MAX_PATH_BYTES - len(str(tmp_path)) - 1))
    listen_unix(str(longest), 1).close()
    error = fails(longest.with_name(longest.name + "s"))
    assert error.errno == errno.ENAMETOOLONG
    assert error.strerror == (
        f"the path has {MAX_PATH_BYTES + 1} bytes, and the system allows {MAX_PATH_BYTES}; write a"
        " shorter one, or a shorter state.dir"
    )


def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    assert fails(path).errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert fails(tmp_path / "none" / "s").errno == errno.ENOENT
