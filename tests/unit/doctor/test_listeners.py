"""Tests of zerotrust.doctor.listeners."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.ports import closed_port
from tests.support.scripted_server import scripted, server_tls, status
from tests.unit.doctor.test_public_names import ROOT, pong
from zerotrust.doctor.listeners import (
    Listener,
    ask_listener,
    judge_listeners,
    listeners,
)
from zerotrust.model.server import ServerConfig

pytestmark = pytest.mark.anyio


def config(**sections: Any) -> ServerConfig:
    return ServerConfig.model_validate(sections)


def test_the_addresses_of_a_server() -> None:
    managed = config(
        server={"listen_addr": "[::]:8443"}, caddy={"bind": ["192.0.2.1"]}, state={"dir": "/s"}
    )
    assert list(map(str, listeners(managed))) == [
        "[::1]:8443",
        "/s/api.sock",
        "192.0.2.1:443",
        "192.0.2.1:80",
    ]
    bare = config(api={"listen_addr": "unix:/run/api.sock"}, caddy={"mode": "none"})
    assert list(map(str, listeners(bare))) == ["127.0.0.1:8443", "/run/api.sock"]
    external = listeners(config(caddy={"mode": "external"}))
    assert list(map(str, external)) == ["127.0.0.1:8443", "127.0.0.1:9443"]
    no_http = listeners(config(caddy={"http_port": 0}))
    assert [one.key for one in no_http][2:] == ["caddy.https_port"]


def at(port: int, kind: str = "tcp") -> Listener:
    return Listener(key=f"caddy.{kind}_port", host="127.0.0.1", port=port, kind=kind)


async def checks(
    listener: Listener, *, name: str = "app.localhost", running: bool = True
) -> list[str]:
    answer = await ask_listener(listener, name=name, roots=[ROOT], step_timeout=1)
    return [one.check for one in judge_listeners([answer], running=running)]


async def test_ports_of_this_server(tmp_path: Path) -> None:
    issued = ForeignCertificate.root().issue("app", dns=("app.localhost",))
    async with scripted(pong) as port:
        assert await checks(at(port)) == []
        assert await checks(at(port, "http")) == []
        assert await checks(at(port, "http"), name="") == []
    async with scripted(pong, tls=server_tls(issued, tmp_path)) as port:
        assert await checks(at(port, "https")) == []
        assert await checks(at(port, "https"), name="") == []


async def test_the_socket_for_caddy(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    listener = Listener(key="api.listen_addr", kind="unix", path=str(path))
    answer = await ask_listener(listener, name="", roots=[ROOT], step_timeout=1)
    (finding,) = judge_listeners([answer], running=True)
    assert str(finding) == (
        f"the server does not listen on socket {path} (api.listen_addr) ({path}: no such file or"
        " directory); see the server's log, and restart it if this key has changed"
    )
    async with await asyncio.start_unix_server(lambda _, writer: writer.close(), path):
        assert await checks(listener) == []
        assert await checks(listener, running=False) == ["port.taken"]


async def test_a_port_that_another_program_has() -> None:
    async with scripted(lambda _: status(200, "Server: nginx/1.24")) as port:
        answer = await ask_listener(at(port, "http"), name="", roots=[ROOT], step_timeout=1)
        (finding,) = judge_listeners([answer], running=True)
        assert str(finding) == (
            f"port {port} belongs to another program (127.0.0.1 answers the ping with status 200 by"
            " nginx/1.24); stop that program (ss -lnp shows it), or change caddy.http_port"
        )
        assert await checks(at(port), running=False) == ["port.taken"]


async def test_a_port_where_nothing_listens() -> None:
    assert await checks(at(closed_port())) == ["port.closed"]
    assert await checks(at(closed_port()), running=False) == []
