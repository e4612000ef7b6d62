"""Tests of access with Caddy, server and agent: answers without a pass, and cuts."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.client import Response
from tests.support.commands import Commands
from tests.support.stack import Authority, Stack, service

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("access"),
]

APP, WS, OPEN, AUTH = "app.localhost", "ws.localhost", "open.localhost", "auth.localhost"
PIN = "48265917"
PAGE = (
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Accept", "text/html"),
)
SCRIPT = (("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty"))
RULES = [
    {"hosts": [APP], "allow": [{"pin": True}, {"user": "anna"}, {"machine": "ci-*"}]},
    {"hosts": [WS], "allow": [{"pin": True}, {"user": "anna"}, {"machine": "ci-*"}]},
]
ACCESS: dict[str, Any] = {
    "auth_host": AUTH,
    "default": "public",
    "users": [{"name": "anna", "groups": ["family"]}],
    "rules": RULES,
}


@dataclass
class Protected:
    """A stack whose services have gates, and its commands."""

    stack: Stack
    origin: Origin
    run: Commands

    async def enter(self, host: str) -> str:
        """Enter the PIN as a browser does; return the cookie of the new pass."""
        body = urlencode({"pin": PIN, "to": "/"}).encode()
        origin = f"https://{host}:{self.stack.https_port}"
        said = await self.stack.caddy.request(
            host,
            "POST",
            "/.0trust/pin",
            (
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Origin", origin),
                ("Sec-Fetch-Site", "same-origin"),
            ),
            body,
        )
        assert said.status == 303, said
        (cookie,) = [line for line in said.all("set-cookie") if line.startswith("__Host-0trust=")]
        return cookie.partition(";")[0]

    async def machine(self, name: str) -> str:
        created = await self.run("machine", "create", name, "--host", APP, "--host", WS)
        assert created.code == 0, created
        return created.out.strip()

    async def get(self, host: str, target: str, *fields: tuple[str, str]) -> Response:
        return await self.stack.caddy.get(host, target, *fields)

    def websocket(self, cookie: str = "", *, path: str = "/", host: str = WS, **fields: str) -> Any:
        origin = fields.pop("origin", f"https://{host}:{self.stack.https_port}")
        headers = {key.replace("_", "-"): value for key, value in fields.items()}
        if cookie:
            headers["Cookie"] = cookie
        return self.stack.caddy.websocket(host, path, origin=origin, additional_headers=headers)

    async def reload(self, rules: list[dict[str, Any]]) -> None:
        """Write other rules to the server's file, and let it read them."""
        path = self.stack.folder / "server.yaml"
        config = json.loads(path.read_text())
        config["access"]["rules"] = rules
        path.write_text(json.dumps(config))
        self.stack.server.send_signal(signal.SIGHUP)


@pytest.fixture(scope="module")
async def protected(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Protected]:
    folder: Path = tmp_path_factory.mktemp("access")
    async with Origin(folder, "--record") as origin, WsEcho(folder) as ws:
        services = [
            service(APP, origin.port),
            service(WS, ws.port, websocket=True),
            service(OPEN, origin.port),
        ]
        stack = Stack(
            folder / "stack", authority, agents={"agent-1": services}, sections={"access": ACCESS}
        )
        async with stack:
            await stack.wait_published(OPEN)
            run = Commands(stack.folder / "state" / "admin.sock")
            pin = folder / "pin"
            pin.write_text(PIN)
            for host in (APP, WS):
                done = await run("pin", "set", host, "--pin-file", str(pin))
                assert done.code == 0, done
            yield Protected(stack, origin, run)


async def test_answers_without_a_pass(protected: Protected) -> None:
    said = await protected.get(APP, "/echo?a=b", *PAGE)
    assert said.status == 302
    assert (said.get("location") or "").startswith(
        f"https://{AUTH}:{protected.stack.https_port}/go?host={APP}&to=%2Fecho%3Fa%3Db&n="
    )
    assert said.get("cache-control") == "no-store"
    (way,) = said.all("set-cookie")
    assert way.startswith("__Host-0trust-way=")
    form = await protected.stack.caddy.request(APP, "POST", "/echo", PAGE, b"x=y")
    assert form.status == 401 and b"not sent" in form.body
    frame = await protected.get(
        APP, "/echo", ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")
    )
    assert frame.status == 401 and b'target="_blank"' in frame.body
    script = await protected.get(APP, "/echo", *SCRIPT)
    assert (script.status, script.error_code) == (401, "login_required")
    assert script.json()["login_url"].endswith("/.0trust/in")
    head = await protected.stack.caddy.request(APP, "HEAD", "/echo")
    assert (head.status, head.body) == (401, b"")
    assert (await protected.get(APP, "/echo")).body.startswith(b"Sign in: ")
    preflight = await protected.stack.caddy.request(
        APP,
        "OPTIONS",
        "/echo",
        (("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")),
    )
    assert preflight.status == 401
    with pytest.raises(InvalidStatus) as refused:
        await protected.websocket()
    assert refused.value.response.status_code == 401


async def test_http_leads_to_https_first(protected: Protected) -> None:
    said = await protected.stack.plain.get(APP, "/echo")
    assert said.status == 301
    location = said.get("location") or ""
    assert location == f"https://{APP}:{protected.stack.https_port}/echo"


async def test_the_auth_host_has_a_certificate_and_pages(protected: Protected) -> None:
    said = await protected.get(AUTH, "/", *PAGE)
    assert said.status == 200 and b"Sign in" in said.body
    refused = await protected.run("grants", "add", "agent-1", AUTH)
    assert refused.code in (0, 1)


async def test_a_pass_opens_its_host_alone_and_no_backend_sees_it(protected: Protected) -> None:
    cookie = await protected.enter(APP)
    await protected.origin.requests(clear=True)
    for host in (APP, OPEN):
        fields = (("Cookie", f"a=b; {cookie}; __Host-0trust-way=x"), ("Remote-User", "root"))
        assert (await protected.get(host, "/echo", *fields)).status == 200
    seen = [request["fields"] for request in await protected.origin.requests()]
    assert len(seen) == 2
    for fields in seen:
        assert ["Cookie", "a=b"] in [list(field) for field in fields]
        assert "0trust=" not in json.dumps(fields) and "root" not in json.dumps(fields)
    with pytest.raises(InvalidStatus):
        await protected.websocket(cookie)


async def test_a_websocket_of_a_sibling_host_is_refused(protected: Protected) -> None:
    cookie = await protected.enter(WS)
    with pytest.raises(InvalidStatus) as refused:
        await protected.websocket(cookie, origin=f"https://{OPEN}:{protected.stack.https_port}")
    assert refused.value.response.status_code == 403
    async with protected.websocket(cookie) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def closed(socket: Any) -> tuple[int | None, str, float]:
    """Read until the end of a WebSocket; return code, reason and the time of the end."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as error:
        close = error.rcvd
        return (close.code if close else None, close.reason if close else "", time.monotonic())


async def test_clearing_the_pin_ends_its_websockets(
    protected: Protected, tmp_path: Path, measured: Measured
) -> None:
    token = await protected.machine("ci-bystander")
    cookie = await protected.enter(WS)
    sockets = [await protected.websocket(cookie) for _ in range(5)]
    async with protected.websocket(X_0Trust_Token=token) as bystander:
        ends = [asyncio.create_task(closed(socket)) for socket in sockets]
        late: list[float] = []
        begun = time.monotonic()
        assert (await protected.run("pin", "clear", WS)).code == 0
        async with asyncio.timeout(10):
            for code, reason, at in await asyncio.gather(*ends):
                assert (code, reason) == (1008, "access withdrawn")
                late.append(at - begun)
        measured(f"a PIN cleared: 5 WebSockets end within {max(late) * 1000:.0f} ms")
        await bystander.send("still here")
        assert await bystander.recv() == "still here"
    with pytest.raises(InvalidStatus) as refused:
        await protected.websocket(cookie)
    assert refused.value.response.status_code == 401
    pin = tmp_path / "pin"
    pin.write_text(PIN)
    assert (await protected.run("pin", "set", WS, "--pin-file", str(pin))).code == 0


async def test_disabling_a_user_ends_downloads_and_event_streams(
    protected: Protected, measured: Measured
) -> None:
    created = await protected.run("app", "create", "--user", "anna", "--name", "phone")
    assert created.code == 0, created
    token = ("X-0Trust-Token", created.out.strip())
    assert (await protected.get(APP, "/echo", token)).status == 200
    async with await protected.stack.caddy.open(APP) as events:
        await events.send_head("GET", "/sse?n=1000&every=0.1", (token,))
        assert (await events.read_head()).status == 200
        async with protected.websocket(X_0Trust_Token=token[1]) as socket:
            end = asyncio.create_task(closed(socket))
            for _ in range(5):
                assert await events.reader.read(65536), "the events go on"
            rest = asyncio.create_task(until_end(events))
            begun = time.monotonic()
            assert (await protected.run("user", "disable", "anna")).code == 0
            async with asyncio.timeout(10):
                code, _, at = await end
                assert code == 1008
                last = max(at, await rest) - begun
            measured(f"a user disabled: a WebSocket and events end within {last * 1000:.0f} ms")
    assert (await protected.get(APP, "/echo", token)).status == 401
    assert (await protected.run("user", "enable", "anna")).code == 0


async def until_end(client: Any) -> float:
    """Read until the connection ends; return the time of the end."""
    try:
        while await client.reader.read(65536):
            pass
    except OSError:
        pass
    return time.monotonic()


async def test_other_rules_end_what_they_no_longer_allow(protected: Protected) -> None:
    token = await protected.machine("ci-rules")
    async with protected.websocket(X_0Trust_Token=token) as socket:
        end = asyncio.create_task(closed(socket))
        await protected.reload([RULES[0], {"hosts": [WS], "allow": [{"user": "anna"}]}])
        async with asyncio.timeout(15):
            code, reason, _ = await end
        assert (code, reason) == (1008, "access withdrawn")
    await protected.reload(RULES)
    await protected.stack.server.wait_line("changes=nothing|reloaded.*waiting")


async def test_no_log_holds_a_secret(protected: Protected) -> None:
    token = await protected.machine("ci-secret")
    cookie = await protected.enter(APP)
    before = protected.stack.server.position()
    fields = (("X-0Trust-Token", token), ("Cookie", cookie))
    # Caddy logs the heads of requests whose answers are incomplete.
    async with await protected.stack.caddy.open(APP) as client:
        await client.send_head("GET", "/sse?n=1000&every=0.1", fields)
        await client.read_head()
        assert (await protected.run("machine", "revoke", "ci-secret")).code == 0
        await client.wait_end()
    await protected.stack.server.wait_line("aborting with incomplete response", since=before)
    log = protected.stack.server.text()
    for secret in (token, cookie.partition("=")[2], PIN):
        assert secret not in log
