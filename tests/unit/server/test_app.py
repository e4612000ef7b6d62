"""Tests of zerotrust.server.app: a configuration applies as a whole and disturbs no traffic."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin_socket import admin_client
from tests.support.inprocess_stack import Backend, RunningServer, StackFiles, dialling, serving
from tests.support.ports import free_port
from tests.support.waiting import eventually
from zerotrust.caddy.edge import Edge
from zerotrust.errors import CaddyError, PkiError, SetupError
from zerotrust.model.logging import Logging
from zerotrust.model.server import ServerConfig
from zerotrust.pki.ca_directory import rotate_issuer
from zerotrust.telemetry import logs

pytestmark = pytest.mark.anyio

APP = "app.example.com"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StackFiles:
    return StackFiles(tmp_path_factory.mktemp("stack"))


@pytest.fixture
async def running(files: StackFiles) -> AsyncIterator[RunningServer]:
    async with serving(files) as running:
        yield running


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[Logging]:
    calls: list[Logging] = []
    monkeypatch.setattr(logs, "configure", calls.append)
    return calls


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_the_log_changes(
    running: RunningServer, files: StackFiles, configured: list[Logging]
) -> None:
    new = files.server(logging={"level": "debug"})
    assert await running.change(new) == []
    await running.change(files.server(logging={"level": "debug"}, hot_reload={"enabled": False}))
    assert configured == [new.logging]


async def test_the_api_moves_and_its_connections_stay(
    running: RunningServer, files: StackFiles
) -> None:
    port = free_port()
    async with await running.open(APP) as client:
        assert (await client.get("/")).status == 404
        assert await running.change(files.server(api={"listen_addr": f"127.0.0.1:{port}"})) == []
        assert await running.status(APP, port) == 404
        assert not accepts(files.api_port)
        assert (await client.get("/")).status == 404, "the connection of before"


async def test_the_api_moves_to_a_unix_socket_and_back(
    running: RunningServer, files: StackFiles, tmp_path: Path
) -> None:
    path = tmp_path / "api.sock"
    await running.change(files.server(api={"listen_addr": f"unix:{path}"}))
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 404")
    assert path.stat().st_mode & 0o777 == 0o600
    await running.change(files.server())
    assert not path.exists()
    assert await running.status(APP) == 404
    writer.close()


async def test_the_agents_door_moves_and_agents_stay(
    running: RunningServer, files: StackFiles
) -> None:
    port = free_port()
    async with (
        Backend("b").listening() as backend,
        dialling(files.agent({"hostname": APP, "backend": f"127.0.0.1:{backend.port}"})),
    ):
        await eventually(lambda: is_served(running), "the service is published")
        await running.change(files.server(server={"listen_addr": f"127.0.0.1:{port}"}))
        assert not accepts(files.tunnel_port)
        assert accepts(port)
        assert await running.status(APP) == 200


async def is_served(running: RunningServer) -> bool:
    return await running.status(APP) == 200


@pytest.mark.parametrize("before", ["127.0.0.1:{}", ":{}"])
async def test_an_address_takes_the_place_of_one_that_overlaps_it(
    files: StackFiles, before: str
) -> None:
    port, api = free_port(), free_port()
    after = {"127.0.0.1:{}": ":{}", ":{}": "127.0.0.1:{}"}[before]
    risk = {"expose_to_network_without_authentication": True}

    def config(form: str) -> ServerConfig:
        listen = {"listen_addr": form.format(api), **risk}
        return files.server(server={"listen_addr": form.format(port)}, api=listen)

    async with serving(files, config(before)) as running:
        await running.change(config(after))
        assert accepts(port)
        assert await running.status(APP, api) == 404
        await running.change(config(before))
        assert accepts(port)
        assert await running.status(APP, api) == 404
    assert not accepts(port)


@pytest.mark.parametrize("section", ["server", "api"])
async def test_an_address_that_is_taken_changes_nothing(
    running: RunningServer, files: StackFiles, configured: list[Logging], section: str
) -> None:
    other = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addresses = {"server": f"127.0.0.1:{other}", "api": f"127.0.0.1:{other}"}
        addresses[section] = f"127.0.0.1:{taken.getsockname()[1]}"
        wanted = files.server(
            logging={"level": "debug"},
            **{key: {"listen_addr": at} for key, at in addresses.items()},
        )
        with pytest.raises(SetupError, match=rf"{section}\.listen_addr: cannot listen on .*in use"):
            await running.change(wanted)
    assert not accepts(other)
    assert accepts(files.tunnel_port)
    assert await running.status(APP) == 404
    assert configured == []


async def test_an_edge_that_refuses_changes_nothing(
    running: RunningServer,
    files: StackFiles,
    configured: list[Logging],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(edge: Edge, config: ServerConfig) -> None:
        raise CaddyError("no")

    monkeypatch.setattr(Edge, "apply", refuse)
    port = free_port()
    with pytest.raises(CaddyError):
        await running.change(
            files.server(api={"listen_addr": f"127.0.0.1:{port}"}, logging={"level": "debug"})
        )
    assert [one.level for one in configured] == ["debug", "info"], "the log is as before"
    assert not accepts(port)
    assert await running.status(APP) == 404


async def test_a_log_that_cannot_be_opened_changes_nothing(
    running: RunningServer, files: StackFiles
) -> None:
    port = free_port()
    with pytest.raises(SetupError, match="cannot open the log file"):
        await running.change(
            files.server(
                logging={"output": "/dev/null/x"}, server={"listen_addr": f"127.0.0.1:{port}"}
            )
        )
    assert not accepts(port)
    assert accepts(files.tunnel_port)


async def test_a_certificate_that_cannot_be_used_changes_nothing(
    running: RunningServer, files: StackFiles, configured: list[Logging]
) -> None:
    with pytest.raises(PkiError, match="cannot be used together"):
        await running.change(
            files.server(
                server={"key_file": str(files.folder / "home.key")}, logging={"level": "debug"}
            )
        )
    assert configured == []


async def test_certificates_are_renewed_at_once(running: RunningServer, files: StackFiles) -> None:
    before = (files.folder / "server.crt").read_bytes()
    files.issue()
    assert before != (files.folder / "server.crt").read_bytes()
    assert await running.change(files.server(), str(files.folder / "server.crt")) == []
    async with dialling(files.agent({"hostname": APP, "backend": "127.0.0.1:9"})):
        await eventually(lambda: is_known(running), "an agent connects")


async def test_who_was_killed_while_its_certificate_was_renewed_starts_again(
    files: StackFiles,
) -> None:
    """The certificate is the new one, its key still waits beside the old."""
    key = files.folder / "server.key"
    before = key.read_bytes()
    files.issue()
    key.rename(files.folder / "server.key.next")
    key.write_bytes(before)
    async with (
        serving(files) as running,
        dialling(files.agent({"hostname": APP, "backend": "127.0.0.1:9"})),
    ):
        await eventually(lambda: is_known(running), "an agent connects")
        files.issue()
        renewed = key.rename(files.folder / "server.key.next")
        key.write_bytes(before)
        assert await running.change(files.server(), str(files.folder / "server.crt")) == []
        assert not renewed.exists()


async def is_known(running: RunningServer) -> bool:
    return await running.status(APP) == 502


async def test_whom_the_api_believes(running: RunningServer, files: StackFiles) -> None:
    """A proxy that is not believed speaks http, so its client is sent to https."""
    forwarded = [("X-Forwarded-Proto", "https")]
    async with (
        dialling(files.agent({"hostname": APP, "backend": "127.0.0.1:9"})),
        await running.open(APP) as client,
    ):
        await eventually(lambda: is_known(running), "the service is published")
        await running.change(
            files.server(api={"trusted_proxies": ["192.0.2.1"]}, caddy={"https_port": 8843})
        )
        answer = await client.get("/", *forwarded)
        assert (answer.status, answer.get("location")) == (301, f"https://{APP}:8843/")
        await running.change(files.server())
        assert (await client.get("/", *forwarded)).status == 502


async def test_grants_change(running: RunningServer, files: StackFiles) -> None:
    async with dialling(files.agent({"hostname": APP, "backend": "127.0.0.1:9"})):
        await eventually(lambda: is_known(running), "the service is published")
        assert await running.change(files.server(grants={"home": ["other.example.com"]})) == []
        assert await running.status(APP) == 404
        await running.change(files.server(grants={}, unsafe_agents_may_claim_any_host=True))
        assert await running.status(APP) == 502


async def test_a_request_goes_on_as_soon_as_its_agent_is_back(files: StackFiles) -> None:
    async with (
        serving(files, files.server(api={"hold_timeout": "1h"})) as running,
        dialling(files.agent({"hostname": APP, "backend": "127.0.0.1:9"})),
        await running.open(APP) as client,
    ):
        await eventually(lambda: is_known(running), "the service is published")
        (session,) = running.server.agents.registry.sessions
        assert session.link.transport is not None
        session.link.transport.abort()
        async with asyncio.timeout(10):
            while session.attached:
                await asyncio.sleep(0)
            assert (await client.get("/")).status == 502


async def test_what_needs_a_restart_is_said_and_the_rest_applies(
    running: RunningServer, files: StackFiles, configured: list[Logging]
) -> None:
    new = files.server(
        caddy={"mode": "managed", "http_port": 0}, logging={"level": "debug"}, state={"dir": "/x"}
    )
    assert await running.change(new) == ["caddy.mode: for a restart", "state.dir: for a restart"]
    assert configured == [new.logging]


async def test_a_running_server_does_not_send_caddy_to_workers_that_are_not_there(
    running: RunningServer, files: StackFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[ServerConfig] = []

    async def apply(_edge: Edge, config: ServerConfig) -> None:
        applied.append(config)

    monkeypatch.setattr(Edge, "apply", apply)
    new = files.server()
    server = new.server.model_copy(update={"workers": 4})
    changed = new.model_copy(update={"server": server})
    assert await running.change(changed) == ["server.workers: for a restart"]
    assert [config.server.worker_count for config in applied] == [1]


async def asked(socket: Path, path: str) -> Any:
    """Return the admin API's answer to a GET."""
    async with admin_client(socket) as client:
        return (await client.get(path)).json()


async def test_an_authority_comes_and_goes_and_the_audit_knows(
    running: RunningServer, files: StackFiles
) -> None:
    socket = files.folder / "state" / "admin.sock"
    start = (await asked(socket, "/v1/audit"))["records"][-1]["number"]
    assert (await asked(socket, "/v1/status"))["issuer_ends_at"] is None
    named = {
        "cert_file": str(files.folder / "issuer.crt"),
        "key_file": str(files.folder / "issuer.key"),
    }
    assert await running.change(files.server(authority=named)) == []
    assert (await asked(socket, "/v1/status"))["issuer_ends_at"] > 0
    with pytest.raises(PkiError, match="belong together"):
        await running.change(files.server(authority={"cert_file": named["cert_file"]}))
    assert (await asked(socket, "/v1/status"))["issuer_ends_at"] > 0
    rotate_issuer(files.folder)
    await running.change(files.server(authority=named), named["cert_file"])
    await running.change(files.server(authority=named, logging={"level": "warn"}))
    await running.change(files.server())
    assert (await asked(socket, "/v1/status"))["issuer_ends_at"] is None
    records = (await asked(socket, f"/v1/audit?after={start}"))["records"]
    assert [one["action"] for one in records] == [
        *["authority.changed", "configuration.applied"] * 2,
        "configuration.applied",
        *["authority.changed", "configuration.applied"],
    ]
    issuers = [one["details"]["issuer"] for one in records if one["action"] == "authority.changed"]
    assert issuers[2] is None
    assert issuers[0] != issuers[1]
    assert records[4]["details"]["settings"][-1].startswith("logging")


async def test_what_was_changed_while_it_was_off_shows(files: StackFiles) -> None:
    async def started(config: ServerConfig) -> dict[str, Any]:
        async with serving(files, config):
            records = (
                await asked(
                    files.folder / "state" / "admin.sock", "/v1/audit?action=server.started"
                )
            )["records"]
            told: dict[str, Any] = records[-1]["details"]
            return told

    first = await started(files.server())
    assert await started(files.server()) == first
    other = await started(
        files.server(grants={"home": ["*.example.com"], "thief": ["a.example.com"]})
    )
    assert {key for key in first if first[key] != other[key]} == {"grants"}
    other = await started(files.server(unsafe_agents_may_claim_any_host=True))
    assert {key for key in first if first[key] != other[key]} == {"any_host"}
    (files.folder / "two.crt").write_bytes(2 * (files.folder / "ca.crt").read_bytes())
    other = await started(files.server(server={"ca_file": str(files.folder / "two.crt")}))
    assert {key for key in first if first[key] != other[key]} == {"ca_file"}
    named = {
        "cert_file": str(files.folder / "issuer.crt"),
        "key_file": str(files.folder / "issuer.key"),
    }
    other = await started(files.server(authority=named))
    assert {key for key in first if first[key] != other[key]} == {"issuer"}


async def test_host_names_that_are_not_granted_are_in_the_audit(
    running: RunningServer, files: StackFiles
) -> None:
    socket = files.folder / "state" / "admin.sock"
    before = len((await asked(socket, "/v1/audit?action=hosts.refused"))["records"])

    async def refusals() -> list[Any]:
        found = (await asked(socket, "/v1/audit?action=hosts.refused"))["records"]
        return [one["details"]["hosts"] for one in found[before:]]

    async with dialling(files.agent({"hostname": "not.granted.example", "backend": "127.0.0.1:9"})):
        await eventually(refusals, "it is recorded")
        await running.change(files.server(grants={"home": ["other.example"]}))
        assert await refusals() == [["not.granted.example"]]


async def test_the_admin_socket_moves(
    running: RunningServer, files: StackFiles, tmp_path: Path
) -> None:
    before, after = files.folder / "state" / "admin.sock", tmp_path / "a.sock"
    assert await running.change(files.server(admin={"socket": str(after)})) == []
    assert not before.exists()
    assert (await asked(after, "/v1/status"))["agents"] == 0
    assert after.stat().st_mode & 0o777 == 0o600
