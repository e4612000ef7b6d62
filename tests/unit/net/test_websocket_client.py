"""Tests of zerotrust.net.websocket_client, with a web server over TLS."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.ports import closed_port
from zerotrust.http.head import parse_request
from zerotrust.http.websocket_handshake import response_block
from zerotrust.net.tls import carrier
from zerotrust.net.websocket_client import WebServer, dial_websocket

pytestmark = pytest.mark.anyio

TEXT_MESSAGE = b"\x81\x00"
CLOSE = b"\x88\x00"


async def dial(port: int, name: str = "localhost") -> asyncio.Transport:
    return await dial_websocket(
        asyncio.Protocol,
        web_server=WebServer("127.0.0.1", port, name),
        connect_timeout=60,
        tls=carrier(),
        server_name="localhost",
    )


@pytest.mark.parametrize("frame", [TEXT_MESSAGE, CLOSE])
async def test_a_websocket_that_ends_right_behind_its_handshake(
    tmp_path: Path, frame: bytes
) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        block = response_block(parse_request(await reader.readuntil(b"\r\n\r\n")))
        writer.write(block + b"Connection: Upgrade\r\n\r\n" + frame)
        await reader.read()
        writer.close()

    leaf = ForeignCertificate.root().issue("localhost", dns=("localhost",))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*leaf.store(tmp_path, "web"))
    async with await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls) as server:
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionError):
                await dial(server.sockets[0].getsockname()[1])
    assert not reported


@pytest.mark.parametrize("name", ["tunnel server", "-x", "*.example.com", "straße.example"])
async def test_a_name_that_is_no_host_name_is_a_failed_connection(name: str) -> None:
    with pytest.raises(ConnectionError, match=r"no host name|is not a host name|contains"):
        await dial(closed_port(), name)
