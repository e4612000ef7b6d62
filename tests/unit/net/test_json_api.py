"""Tests of zerotrust.net.json_api, over a real unix socket."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.admin_socket import admin_client
from zerotrust.errors import NoAgent, PkiError
from zerotrust.net import json_api
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.json_api import MAX_BODY, Call, CallError, JsonApi, Reply
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer

pytestmark = pytest.mark.anyio


async def echo(call: Call) -> Reply:
    return Reply(
        {"query": dict(call.query), "body": dict(call.body), "uid": call.uid, "peer": call.peer}
    )


async def plain(_call: Call) -> Reply:
    return Reply(b"-----BEGIN\n", media_type="application/x-pem-file")


async def refuse(call: Call) -> Reply:
    raise {
        "pki": PkiError("no such luck"),
        "call": CallError("no such luck", 409),
        "down": NoAgent("no such luck"),
    }[call.query["how"]]


async def fault(_call: Call) -> Reply:
    raise RuntimeError("secret detail")


ENDPOINTS = {
    ("POST", "/echo"): echo,
    ("GET", "/plain"): plain,
    ("GET", "/refuse"): refuse,
    ("GET", "/fault"): fault,
}


@asynccontextmanager
async def api(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    tasks = Tasks()
    listener = HttpListener(
        WriteCoalescer(asyncio.get_running_loop()),
        JsonApi(ENDPOINTS, tasks),
        tasks,
        name="test",
        most=lambda: 10,
    )
    path = str(folder / "s")
    async with listener.listen(f"unix:{path}", key="test"):
        async with admin_client(folder / "s") as client:
            yield client
    await tasks.close()


async def test_calls_are_answered_and_know_their_peer(tmp_path: Path) -> None:
    async with api(tmp_path) as client:
        for number in range(3):
            said = (await client.post("/echo", params={"n": number}, json={"a": [1]})).json()
            uid = os.getuid() if sys.platform == "linux" else None
            assert said == {"query": {"n": str(number)}, "body": {"a": [1]}, "uid": uid, "peer": ""}
        answer = await client.get("/plain")
        assert (answer.content, answer.headers["content-type"]) == (
            b"-----BEGIN\n",
            "application/x-pem-file",
        )


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [("pki", 400, "pki"), ("call", 409, "bad_call"), ("down", 503, "no_agent")],
)
async def test_known_errors_are_answered_with_their_message(
    tmp_path: Path, how: str, status: int, code: str
) -> None:
    async with api(tmp_path) as client:
        answer = await client.get("/refuse", params={"how": how})
    assert (answer.status_code, answer.json()) == (status, {"error": "no such luck", "code": code})


async def test_unknown_errors_are_answered_without_details(tmp_path: Path) -> None:
    async with api(tmp_path) as client:
        answer = await client.get("/fault")
    assert answer.status_code == 500
    assert "secret" not in answer.text


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 50_000])
async def test_a_body_that_is_no_json_object_is_refused(tmp_path: Path, body: bytes) -> None:
    async with api(tmp_path) as client:
        answer = await client.post("/echo", content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_call"


async def test_large_bodies_and_unknown_paths_are_refused(tmp_path: Path) -> None:
    async with api(tmp_path) as client:
        assert (await client.post("/echo", content=b" " * (MAX_BODY + 1))).status_code == 413
        assert (await client.get("/echo")).status_code == 405
        assert (await client.get("/other")).status_code == 404


async def test_targets_that_look_like_broken_addresses(tmp_path: Path) -> None:
    async with api(tmp_path):
        for target in (b"//[", b"//[::1", b"//a]/echo", b"/\xc3\xa9", b"/\xff?\x9b"):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
            async with asyncio.timeout(20):
                assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
            writer.close()


async def test_an_incomplete_body_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_api, "BODY_TIMEOUT", 0.05)
    async with api(tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{")
        async with asyncio.timeout(20):
            said = await reader.read()
        writer.close()
    assert said.startswith(b"HTTP/1.1 408 ")


async def test_a_call_completes_after_its_client_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, done = asyncio.Event(), asyncio.Event()
    gone = asyncio.Event()

    async def slow(_call: Call) -> Reply:
        asked.set()
        await gone.wait()
        done.set()
        return Reply({})

    monkeypatch.setitem(ENDPOINTS, ("GET", "/slow"), slow)
    async with api(tmp_path):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.wait_for(asked.wait(), 5)
        gone.set()
        await asyncio.wait_for(done.wait(), 5)
