"""Tests of zerotrust.net.asgi, without a network."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.transport import FakeTransport
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead
from zerotrust.net import asgi
from zerotrust.net.asgi import AsgiApp, AsgiBridge, Message, Receive, Send
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer

pytestmark = pytest.mark.anyio

Answer = Callable[[Message, Receive, Send], Awaitable[None]]


class Client:
    """One connection, whose requests all go to an application."""

    def __init__(self, app: AsgiApp, **options: int) -> None:
        self.tasks = Tasks()
        self.bridge = AsgiBridge(app, self.tasks, **options)
        self.connect()

    def connect(self) -> None:
        self.connection = HttpServerConnection(
            WriteCoalescer(asyncio.get_running_loop()), self, set()
        )
        self.transport = FakeTransport(self.connection.as_protocol())

    def request(
        self, connection: HttpServerConnection, head: RequestHead, framing: tuple[Kind, int]
    ) -> RequestSink | None:
        return self.bridge.request(
            connection,
            head,
            framing,
            client=b"203.0.113.7",
            scheme=b"https",
            state={"host": head.fields.host},
        )

    async def ask(self, start: str, *fields: str, body: bytes = b"") -> bytes:
        lines = [f"{start} HTTP/1.1", "Host: auth.example.com:8443", *fields, "", ""]
        self.connection.data_received("\r\n".join(lines).encode() + body)
        return await self.hear()

    async def hear(self) -> bytes:
        for _ in range(10):
            await asyncio.sleep(0)
        return await self.transport.written()


async def text(send: Send, body: bytes, status: int = 200, **message: Any) -> None:
    await send({"type": "http.response.start", "status": status, **message})
    await send({"type": "http.response.body", "body": body})


async def test_the_application_gets_the_request() -> None:
    seen: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.extend((scope, await receive()))
        await text(send, b"hi", headers=[(b"X-A", b"1")])

    client = Client(app)
    said = await client.ask("POST /a%20b?c=%2F", "Content-Length: 3", "Cookie: a=b", body=b"xyz")
    assert said == b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi"
    scope, message = seen
    assert scope["type"] == "http"
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("POST", "/a b", b"/a%20b")
    assert (scope["query_string"], scope["scheme"]) == (b"c=%2F", "https")
    assert scope["client"] == ("203.0.113.7", 0)
    assert scope["server"] == ("auth.example.com", 443)
    assert scope["state"] == {"host": "auth.example.com"}
    assert scope["headers"] == [
        (b"host", b"auth.example.com:8443"),
        (b"content-length", b"3"),
        (b"cookie", b"a=b"),
    ]
    assert message == {"type": "http.request", "body": b"xyz", "more_body": False}
    # The connection takes the next request.
    assert (await client.ask("GET /")).endswith(b"\r\n\r\nhi")


async def test_bodies_come_in_pieces_and_chunks() -> None:
    bodies: list[bytes] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        bodies.append((await receive())["body"])
        await text(send, b"")

    client = Client(app)
    assert await client.ask("POST /", "Content-Length: 4", body=b"ab") == b""
    client.connection.data_received(b"cd")
    assert (await client.hear()).startswith(b"HTTP/1.1 200 ")
    said = await client.ask(
        "POST /", "Transfer-Encoding: chunked", body=b"2\r\nxy\r\n0\r\nEtag: a\r\n\r\n"
    )
    assert said.startswith(b"HTTP/1.1 200 ")
    assert bodies == [b"abcd", b"xy"]


def starlette() -> Starlette:
    async def page(_request: Request) -> Response:
        return HTMLResponse("<p>hi", headers={"X-Page": "1"})

    async def form(request: Request) -> Response:
        fields = await request.json()
        return JSONResponse({"host": request.state.host, "name": fields["name"]})

    async def stream(_request: Request) -> Response:
        async def pieces() -> Any:
            yield b"a"
            yield b"b"

        return StreamingResponse(pieces())

    async def empty(_request: Request) -> Response:
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/page", page),
            Route("/form", form, methods=["POST"]),
            Route("/stream", stream),
            Route("/empty", empty),
        ]
    )


async def test_starlette_answers() -> None:
    client = Client(starlette())
    said = await client.ask("GET /page")
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\nContent-Length: 5\r\n\r\n<p>hi")
    said = await client.ask("HEAD /page")
    assert said.endswith(b"\r\nContent-Length: 5\r\n\r\n")
    assert (await client.ask("GET /stream")).endswith(
        b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
    )
    assert await client.ask("GET /empty") == b"HTTP/1.1 204 No Content\r\n\r\n"
    said = await client.ask(
        "POST /form",
        "Content-Length: 15",
        body=b'{"name":"anna"}',
    )
    assert said.endswith(b'{"host":"auth.example.com","name":"anna"}')
    assert (await client.ask("GET /other")).startswith(b"HTTP/1.1 404 ")


async def test_http_1_0_gets_a_stream_until_the_connection_ends() -> None:
    client = Client(starlette())
    client.connection.data_received(b"GET /stream HTTP/1.0\r\nHost: a\r\n\r\n")
    assert (await client.hear()).endswith(b"Connection: close\r\n\r\nab")


async def test_too_many_requests_get_503() -> None:
    release = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await release.wait()
        await text(send, b"late")

    client = Client(app, most=1)
    assert await client.ask("GET /") == b""
    first = client.transport
    client.connect()
    said = await client.ask("GET /")
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in said
    release.set()
    await client.hear()
    assert (await first.written()).endswith(b"late")
    assert (await client.ask("GET /")).endswith(b"late")
    assert client.bridge.running == 0


@pytest.mark.parametrize(
    ("field", "body"), [("Content-Length: 5", b""), ("Transfer-Encoding: chunked", b"5\r\n")]
)
async def test_long_bodies_get_413(field: str, body: bytes) -> None:
    client = Client(starlette(), max_body=4)
    said = await client.ask("POST /form", field, body=body)
    client.connection.data_received(b"12345\r\n")
    said += await client.hear()
    assert said.startswith(b"HTTP/1.1 413 ")
    assert client.bridge.receiving == 0


async def test_slow_bodies_get_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_TIMEOUT", 0.01)
    client = Client(starlette())
    assert await client.ask("POST /form", "Content-Length: 5", body=b"1") == b""
    async with asyncio.timeout(20):
        while not (said := await client.hear()):
            await asyncio.sleep(0.005)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert client.bridge.receiving == 0


async def test_slow_bodies_keep_no_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "MAX_BODIES", 1)
    client = Client(starlette())
    assert await client.ask("POST /form", "Content-Length: 5", body=b"1") == b""
    slow = client.transport
    client.connect()
    assert await client.ask("POST /form", "Content-Length: 13", body=b'{"name"') == b""
    assert (await slow.written()).startswith(b"HTTP/1.1 503 ")
    client.connection.data_received(b': "x"')
    client.connection.data_received(b"}")
    assert (await client.hear()).startswith(b"HTTP/1.1 200 ")
    assert client.bridge.receiving == 0


async def fails(scope: Message, receive: Receive, send: Send) -> None:
    raise RuntimeError("secret detail")


async def sends_nothing(scope: Message, receive: Receive, send: Send) -> None:
    pass


async def breaks_the_head(scope: Message, receive: Receive, send: Send) -> None:
    await text(send, b"", headers=[(b"Location", b"/\r\nSet-Cookie: a=b")])


async def sends_a_body_first(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"x"})


@pytest.mark.parametrize("app", [fails, sends_nothing, breaks_the_head, sends_a_body_first])
async def test_a_fault_is_answered_without_details(app: Answer) -> None:
    client = Client(app)
    said = await client.ask("GET /")
    assert said.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"secret" not in said
    assert b"Set-Cookie" not in said
    assert client.bridge.running == 0


async def stops_early(scope: Message, receive: Receive, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"5")],
        }
    )
    await send({"type": "http.response.body", "body": b"abc", "more_body": True})


async def sends_too_much(scope: Message, receive: Receive, send: Send) -> None:
    await text(send, b"abcdef", headers=[(b"content-length", b"5")])


@pytest.mark.parametrize("app", [stops_early, sends_too_much])
async def test_an_answer_that_breaks_off_is_seen_to_be_incomplete(app: Answer) -> None:
    client = Client(app)
    said = await client.ask("GET /")
    assert b"Content-Length: 5" in said
    assert client.transport.is_aborted


async def test_an_application_ends_when_its_client_goes_away() -> None:
    ended: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        ended.append(await receive())
        await text(send, b"nobody reads this")

    client = Client(app)
    await client.ask("GET /")
    client.connection.connection_lost(None)
    await client.hear()
    assert ended == [{"type": "http.disconnect"}]
    assert client.bridge.running == 0


async def test_a_stream_of_starlette_ends_with_its_client() -> None:
    closed = asyncio.Event()

    async def endless(_request: Request) -> Response:
        async def pieces() -> Any:
            try:
                yield b"a"
                await asyncio.Event().wait()
            finally:
                closed.set()

        return StreamingResponse(pieces())

    client = Client(Starlette(routes=[Route("/", endless)]))
    assert (await client.ask("GET /")).endswith(b"1\r\na\r\n")
    client.connection.connection_lost(None)
    async with asyncio.timeout(20):
        await closed.wait()


async def test_an_application_waits_for_a_slow_client() -> None:
    sent: list[int] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            sent.append(number)

    client = Client(app)
    client.connection.pause_writing()
    await client.ask("GET /")
    assert sent == []
    client.connection.resume_writing()
    await client.hear()
    assert sent == [0, 1, 2]
    client.connect()
    client.connection.pause_writing()
    await client.ask("GET /")
    client.connection.connection_lost(None)
    await client.hear()
    assert client.bridge.running == 0
