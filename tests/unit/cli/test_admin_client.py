"""Tests of zerotrust.cli.admin_client: a running server, none, and a wrong one."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.identities import DirectoryServer
from zerotrust.cli import admin_client
from zerotrust.cli.admin_client import AdminClient, connect
from zerotrust.cli.main import status
from zerotrust.cli.options import SERVER_FILE
from zerotrust.errors import CommandError
from zerotrust.model import admin


def said_by(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert status(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_the_socket_is_found_by_the_servers_file(
    server: DirectoryServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("server: {cert_file: c.crt}\nadmin: {socket: admin.sock}\n")
    assert status(["grants", "list", "--config", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"grants": []}
    file.write_text("server: {cert_file: c.crt}\nstate: {dir: .}\n")
    assert status(["grants", "list", "-c", str(file)]) == 0


def test_the_file_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(admin_client, "SERVER_FILE", tmp_path / "usual" / "server.yaml")
    Path("server.yaml").write_text("server: {cert_file: c.crt}\n")
    found = channel_of(tmp_path / "usual" / "server.yaml")
    assert str(tmp_path / "state" / "admin.sock") in found


def channel_of(config: Path) -> str:
    """Return the connection error, which names the socket."""
    with pytest.raises(CommandError) as caught:
        admin_client.connect(config, None)
    return str(caught.value)


def test_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("server: {cert_file: c.crt}\n")
    where = tmp_path / "state" / "admin.sock"
    wanted = (
        f"error: no server runs at {where}; start it with `0trust server run --config {file}`, "
        "or name another with --config or --socket\n"
    )
    assert said_by(["agents", "list", "--config", str(file)], capsys) == wanted
    where.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(where))
    assert said_by(["agents", "list", "--config", str(file)], capsys) == wanted


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_by(["agents", "list", "--config", str(tmp_path / "none.yaml")], capsys)
    assert "no such file" in said
    assert said.endswith(
        "error: name the server's file with --config, or its admin socket with --socket\n"
    )


def test_a_folder_that_is_closed_to_this_user(
    monkeypatch: pytest.MonkeyPatch, server: DirectoryServer
) -> None:
    def deny(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", deny)
    assert connect(SERVER_FILE, server.socket).get("/v1/grants", admin.GrantList).grants == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every socket")
def test_a_socket_of_somebody_else(
    server: DirectoryServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.socket.chmod(0)
    assert "use sudo" in said_by(["agents", "list", "--socket", str(server.socket)], capsys)


def test_a_denied_connection_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", deny)
    with pytest.raises(CommandError, match="use sudo"):
        AdminClient(tmp_path / "s", start="x")


def test_a_server_that_does_not_answer_in_time(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        client = AdminClient(tmp_path / "s", start="x", timeout=0.1)
        with pytest.raises(CommandError, match="did not answer"):
            client.get("/v1/status", admin.ServerStatus)


def test_a_path_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "too long" in said_by(["agents", "list", "--socket", f"/{'x' * 200}"], capsys)


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Run a stand-in for another program at the socket, for one connection."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            listening.accept()[0].close()  # looks whether somebody is there
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(10)


def reply(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "did not answer; 0trust audit list shows whether the command took effect"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "did not answer"),
        (b"220 ready\r\n", "did not answer"),
        (reply("200 OK", "<html>"), "does not belong to a 0trust server of this version"),
        (reply("200 OK", '{"grants": 1}'), "does not belong to a 0trust server of this version"),
        (reply("404 Not Found", "no"), "does not belong to a 0trust server of this version"),
        (reply("400 Bad Request", '{"error": "so\\u001b[2J"}'), "error: so?[2J\n"),
    ],
)
def test_what_answers_is_not_believed_blindly(
    tmp_path: Path, answer: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s"
    with answering(path, answer):
        assert said in said_by(["grants", "list", "--socket", str(path)], capsys)


def test_answers_may_have_keys_of_a_later_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s"
    with answering(path, reply("200 OK", '{"grants": [], "later": true}')):
        assert status(["grants", "list", "--socket", str(path)]) == 0
    assert capsys.readouterr().out == "no grants\n"
