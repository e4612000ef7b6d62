"""Tests of docs/troubleshooting.md: curl sees each documented symptom through the whole chain."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from tests.support.inprocess_backend import InProcessBackend
from tests.support.ports import closed_port
from tests.support.processes import ROOT
from tests.support.recording_backend import RecordingBackend
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("troubleshooting"),
]

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()


@dataclass
class Scenario:
    stack: Stack
    sockets: RecordingBackend

    async def curl(self, host: str, *options: str, url: str | None = None) -> str:
        """Run the page's curl command with another URL; return its output."""
        line = PAGE[PAGE.index("curl -sv") :].partition(" https://pihole")[0]
        words = [
            word.strip('"')
            for word in re.findall(
                r'"[^"]*"|[^\s\\]+', line.replace("--max-time 3", "--max-time 1")
            )
        ]
        entrypoint = self.stack.caddy
        trust = [
            "--cacert",
            str(entrypoint.root),
            "--resolve",
            f"{host}:{entrypoint.port}:127.0.0.1",
        ]
        command = [*words, *trust, *options, url or entrypoint.url(host)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        return said.decode(errors="replace")


@pytest.fixture(scope="module")
async def scenario(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Scenario]:
    sockets, plain, slow = (
        RecordingBackend("sockets"),
        InProcessBackend("plain"),
        InProcessBackend("slow"),
    )
    slow.delay = 60
    for backend in (sockets, plain, slow):
        await backend.start()
    own = f"127.0.0.1:{closed_port()}"
    origin = Origin(f"http://{own}")
    async with serve(sockets.converse, "127.0.0.1", int(own[10:]), origins=[origin]):
        strict = [{"address": own}]
        edits = {"type": "headers", "config": {"request": {"set": {"X-Missing": "here"}}}}
        denied = {"type": "ip_deny", "config": {"denied_ips": ["127.0.0.1"]}}
        check = {"interval": "100ms", "unhealthy_threshold": 1}
        services = [
            service("ws.localhost", sockets.port),
            service("plain.localhost", plain.port),
            service("none.localhost", sockets.port, websocket=False),
            service("denied.localhost", sockets.port, routes=[{"handle": [denied]}]),
            service("strict.localhost", 1, upstreams=strict),
            service(
                "eased.localhost", 1, upstreams=strict, origin="upstream", host_header="upstream"
            ),
            service("few.localhost", sockets.port, max_websockets_per_client=1),
            service("gone.localhost", closed_port()),
            service("slow.localhost", slow.port, timeout="1s"),
            service("quiet.localhost", sockets.port, websocket_idle_timeout="1s"),
            service("edited.localhost", sockets.port, routes=[{"handle": [edits]}]),
            service(
                "ill.localhost",
                1,
                upstreams=[{"address": f"127.0.0.1:{closed_port()}", "health_check": check}],
                load_balancing={"health_check_required": True},
            ),
        ]
        folder = tmp_path_factory.mktemp("troubleshooting")
        async with Stack(folder, authority, agents={"agent": services}, level="debug") as stack:
            await stack.agents["agent"].process.wait_line(
                "upstream health changed.*after=unhealthy.*ill.localhost"
            )
            yield Scenario(stack, sockets)
    for backend in (sockets, plain, slow):
        await backend.stop()


async def test_the_line_that_shows_an_upgrade(scenario: Scenario) -> None:
    assert "< HTTP/1.1 101 Switching Protocols" in await scenario.curl("ws.localhost")
    assert "< HTTP/1.1 101" in await scenario.curl(
        "ws.localhost", url=f"http://127.0.0.1:{scenario.sockets.port}/"
    )
    await scenario.stack.agents["agent"].process.wait_line(
        "Detected WebSocket upgrade request for host: ws.localhost - forwarding as regular HTTP"
    )
    over_http2 = await scenario.curl("ws.localhost", "--http2")
    assert "< HTTP/2 200" in over_http2


@pytest.mark.parametrize(
    ("host", "status", "code"),
    [
        ("plain", 200, None),
        ("none", 403, "upgrade_refused"),
        ("denied", 403, "ip_refused"),
        ("gone", 502, "upstream_unreachable"),
        ("slow", 504, "upstream_timeout"),
        ("ill", 503, "upstreams_down"),
    ],
)
async def test_other_answers(scenario: Scenario, host: str, status: int, code: str | None) -> None:
    since = scenario.stack.agents["agent"].process.position()
    said = await scenario.curl(f"{host}.localhost", "--max-time", "6")
    assert f"< HTTP/1.1 {status} " in said
    found = re.search(r"(?i)< x-0trust-error: (\S+)", said)
    assert (found[1] if found else None) == code
    if code is None:
        return
    assert f"`{status} {code}`" in PAGE
    if host == "gone":
        request = re.search(r"request id: (\S+)", said)
        assert request is not None
        line = await scenario.stack.agents["agent"].process.wait_line(
            f"request failed.*{request[1]}.*", since=since
        )
        assert "connection refused" in line[0]


async def test_backends_that_check_where_a_page_is_from(scenario: Scenario) -> None:
    port = scenario.stack.caddy.port

    async def status(host: str, origin: str) -> str:
        said = await scenario.curl(host, "-H", f"Origin: {origin}")
        assert "X-0trust-Error" not in said
        found = re.search(r"< HTTP/1.1 (\d+)", said)
        assert found
        return found[1]

    assert await status("strict.localhost", f"https://strict.localhost:{port}") == "403"
    assert await status("eased.localhost", f"https://eased.localhost:{port}") == "101"
    assert await status("eased.localhost", "https://evil.example") == "403"


async def test_no_certificate_for_a_name_that_nobody_serves(scenario: Scenario) -> None:
    assert "tlsv1 alert internal error" in await scenario.curl("nobody.localhost")


async def test_limits_of_websockets(scenario: Scenario) -> None:
    async with scenario.stack.caddy.websocket("few.localhost"):
        assert "X-0trust-Error: websocket_limit" in await scenario.curl("few.localhost")
    since = scenario.stack.server.position()
    async with scenario.stack.caddy.websocket("quiet.localhost") as socket:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 10)
    await scenario.stack.server.wait_line("idle for too long", since=since)


async def test_fields_that_a_backend_misses(scenario: Scenario) -> None:
    options: dict[str, Any] = {
        "subprotocols": ["chat"],
        "additional_headers": {"Cookie": "a=b", "X-Real-IP": "192.0.2.66"},
    }
    async with scenario.stack.caddy.websocket("edited.localhost", **options):
        pass
    seen = scenario.sockets.requests[-1].headers
    assert (seen["Sec-WebSocket-Protocol"], seen["Cookie"], seen["X-Missing"]) == (
        "chat",
        "a=b",
        "here",
    )
    assert seen["X-Real-IP"] == "127.0.0.1"


async def test_an_agent_that_is_not_connected(scenario: Scenario) -> None:
    """Runs last: it stops the agent."""
    assert "< HTTP/1.1 101" in await scenario.curl("ws.localhost"), (
        "its certificate is there from now on"
    )
    await scenario.stack.agents["agent"].process.stop()

    async def is_told() -> bool:
        return "X-0trust-Error: no_agent" in await scenario.curl("ws.localhost")

    await eventually(is_told, "nobody is waited for any longer", 20)
