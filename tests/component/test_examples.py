"""Tests of the examples: each runs from its own files through all four hops."""

import asyncio
import json
import shutil
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.entrypoint import Entrypoint
from tests.support.example_runner import TUNNEL, Example
from tests.support.processes import ROOT
from tests.support.recording_backend import RecordingBackend
from tests.support.stack import Authority
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("examples"),
]

UPGRADE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
]


@dataclass
class Running:
    """An example with its backends, by name."""

    example: Example
    backends: dict[str, RecordingBackend]

    @property
    def caddy(self) -> Entrypoint:
        return self.example.caddy


def tls_by(authority: Authority) -> ssl.SSLContext:
    """A backend's, with a certificate for localhost."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.server("backend"))
    return context


def make(
    folder: Path,
    authority: Authority,
    name: str,
    texts: tuple[str, str],
    backends: dict[str, RecordingBackend],
) -> Running:
    """An example that is not started.

    `backends` are given by the address, or the variable, that leads there.
    """
    host = "localhost" if any(backend.tls for backend in backends.values()) else "127.0.0.1"
    to = {place: f"{host}:{backend.port}" for place, backend in backends.items()}
    example = Example(
        folder,
        authority,
        agent=texts[0],
        server=texts[1],
        name=name,
        addresses={place: address for place, address in to.items() if ":" in place},
        environment={place: address for place, address in to.items() if ":" not in place},
    )
    return Running(example, {backend.name: backend for backend in backends.values()})


def written(folder: str) -> tuple[str, str]:
    """Both files of an example."""
    source = ROOT / "examples" / folder
    return (source / "agent.yaml").read_text(), (source / "server.yaml").read_text()


def reference(file: str) -> tuple[str, str]:
    """A file of the document, which names no server, with the server of the Pi-hole example."""
    connection = {
        "address": f"{TUNNEL}:8443",
        "ca_cert": "ca.crt",
        "cert": "agent.crt",
        "key": "agent.key",
    }
    agent = (ROOT / "examples" / "reference" / file).read_text()
    _, server = written("pihole")
    return f"{agent}\nserver: {json.dumps(connection)}\n", server


REFERENCE = {"full.yaml": "agent-1", "pihole.yaml": "pihole-agent", "simple.yaml": "simple"}
"""The files of the document that 0Trust was born from, and the agents that use them."""


@pytest.fixture(scope="module")
async def examples(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[dict[str, Running]]:
    """All of them, started at the same time."""
    folder = tmp_path_factory.mktemp("examples")
    internal = Authority(folder / "internal")
    rack = {"20:3000": "grafana", "21:8080": "wiki", "22:80": "files", "23:80": "apps"}
    asked: list[tuple[str, str, dict[str, RecordingBackend]]] = [
        ("pihole", "pihole-agent", {"PIHOLE": RecordingBackend("pihole")}),
        ("home-assistant", "home", {"HOME_ASSISTANT": RecordingBackend("home")}),
        (
            "several-services",
            "rack",
            {f"192.168.1.{end}": RecordingBackend(each) for end, each in rack.items()},
        ),
        (
            "weighted-canary",
            "api",
            {
                "10.0.0.10:8080": RecordingBackend("known"),
                "10.0.0.11:8080": RecordingBackend("canary"),
            },
        ),
        (
            "https-upstreams-own-ca",
            "vault",
            {"vault.internal.example:8200": RecordingBackend("vault", tls=tls_by(internal))},
        ),
    ]
    running = {
        title: make(folder / title, authority, name, written(title), backends)
        for title, name, backends in asked
    }
    for file, name in REFERENCE.items():
        backends = {"192.168.1.100:80": RecordingBackend("pihole")}
        running[file] = make(folder / file, authority, name, reference(file), backends)
    shutil.copy(internal.root, folder / "https-upstreams-own-ca" / "internal-ca.crt")
    started = list(running.values())
    try:
        await asyncio.gather(
            *(backend.start() for each in started for backend in each.backends.values())
        )
        await asyncio.gather(*(each.example.start() for each in started))
        yield running
    finally:
        await asyncio.gather(*(each.example.stop() for each in started))
        await asyncio.gather(
            *(backend.stop() for each in started for backend in each.backends.values())
        )


async def echoes(entrypoint: Entrypoint, host: str, path: str = "/") -> None:
    async with entrypoint.websocket(host, path) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_pihole(examples: dict[str, Running]) -> None:
    pihole = examples["pihole"]
    backend = pihole.backends["pihole"]
    assert (await pihole.caddy.get("pihole.localhost", "/admin/")).body == b"pihole"
    await echoes(pihole.caddy, "pihole.localhost")
    checks = [
        each for each in backend.requests if each.headers.get("User-Agent") == "0trust-health-check"
    ]
    await eventually(lambda: "/admin/" in backend.paths, "its health is asked for")
    assert {each.path for each in checks} <= {"/admin/"}


async def test_home_assistant(examples: dict[str, Running]) -> None:
    home = examples["home-assistant"]
    async with home.caddy.websocket("home.localhost", "/api/websocket") as socket:
        assert (await home.caddy.get("home.localhost", "/api/")).body == b"home"
        await socket.send("still here")
        assert await socket.recv() == "still here"
    upgrade = next(each for each in home.backends["home"].requests if each.path == "/api/websocket")
    assert upgrade.headers["Host"] == f"home.localhost:{home.caddy.port}"
    assert (upgrade.headers["X-Forwarded-Proto"], upgrade.headers["X-Forwarded-For"]) == (
        "https",
        "127.0.0.1",
    )


async def test_several_services(examples: dict[str, Running]) -> None:
    rack = examples["several-services"]
    leads_to = {"grafana": "grafana", "wiki": "wiki", "docs": "wiki", "files": "files"}
    leads_to |= {"a.apps": "apps", "b.apps": "apps"}
    await rack.example.published(*(f"{name}.localhost" for name in leads_to))
    for name, backend in leads_to.items():
        assert (await rack.caddy.get(f"{name}.localhost", "/")).body == backend.encode()
    alias = await rack.caddy.get("pages.localhost", "/a?b")
    assert (alias.status, alias.get("location")) == (308, "https://wiki.localhost/a?b")
    with pytest.raises(InvalidStatus) as refused:
        await echoes(rack.caddy, "files.localhost")
    assert refused.value.response.status_code == 403
    assert "/socket" not in rack.backends["files"].paths
    rack.backends["another wiki"] = another = RecordingBackend("another wiki")
    await another.start()
    async with rack.caddy.websocket("grafana.localhost") as socket:
        file = rack.example.agent_file
        file.write_text(
            file.read_text().replace(
                f"127.0.0.1:{rack.backends['wiki'].port}", f"127.0.0.1:{another.port}"
            )
        )

        async def moved() -> bool:
            return (await rack.caddy.get("wiki.localhost", "/")).body == b"another wiki"

        await eventually(moved, "the change of the file is applied")
        await socket.send("undisturbed")
        assert await socket.recv() == "undisturbed"


async def test_weighted_canary(examples: dict[str, Running]) -> None:
    api = examples["weighted-canary"]

    async def ask(count: int) -> Counter[str]:
        async with await api.caddy.open("api.localhost") as client:
            return Counter([(await client.get("/v")).body.decode() for _ in range(count)])

    assert await ask(100) == {"known": 95, "canary": 5}
    await eventually(
        lambda: all("/healthz" in backend.paths for backend in api.backends.values()),
        "the health of each backend is asked for",
    )
    await api.backends["known"].stop()
    assert await ask(10) == {"canary": 10}, (
        "who is asked when the other is down, without an error in between"
    )


async def test_https_upstreams_with_an_authority_of_ones_own(
    examples: dict[str, Running], tmp_path: Path
) -> None:
    vault = examples["https-upstreams-own-ca"]
    backend = vault.backends["vault"]
    assert (await vault.caddy.get("vault.localhost", "/")).body == b"vault"
    await echoes(vault.caddy, "vault.localhost")
    await backend.stop()
    backend.tls = tls_by(Authority(tmp_path / "foreign"))
    await backend.start()
    asked = len(backend.requests)
    refused = await vault.caddy.get("vault.localhost", "/")
    assert (refused.status, refused.error_code) == (502, "upstream_unreachable")
    assert len(backend.requests) == asked


@pytest.mark.parametrize("file", REFERENCE)
async def test_files_of_the_reference_document(examples: dict[str, Running], file: str) -> None:
    """And the line that it checks the upgrade with."""
    entrypoint = examples[file].caddy
    assert (await entrypoint.get("pihole.localhost", "/admin/")).body == b"pihole"
    async with await entrypoint.open("pihole.localhost") as client:
        answer = await client.request("GET", "/", UPGRADE)
        assert (answer.status, answer.get("sec-websocket-accept")) == (
            101,
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        )
    await echoes(entrypoint, "pihole.localhost")
