"""Tests of the ingress: client addresses, trusted proxies, policies, parked requests."""

import asyncio
import base64
import re
import threading
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, cast

import bcrypt
import pytest
from structlog.testing import capture_logs

from tests.support.agent_sessions import join
from tests.unit.server.multi_agent_proxy import MultiAgentProxy
from tests.unit.server.proxy_fixture import ProxyFixture, build_ingress, lose_link, restore_link
from zerotrust.http.body import request_framing
from zerotrust.http.head import parse_request
from zerotrust.model.limits import Limits
from zerotrust.model.server import ProxyApi
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.scheme import USUAL, OfferedSchemes
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.proxy import verification_pool
from zerotrust.server.proxy.load_shedding import CALM, LoadShedding
from zerotrust.server.proxy.verification_pool import MAX_WAITING_OF_NETWORK
from zerotrust.tunnel.binary import MAX_OPEN_PAYLOAD_BYTES, RequestOpen, unpack_open
from zerotrust.tunnel.codes import FLAG_UPGRADE, KIND_TUNNEL, Code
from zerotrust.tunnel.session_stats import SessionStats

EITHER = OfferedSchemes(http=True, https=True, redirect=False)


class Session:
    """Session that records opened streams."""

    can_open = True
    attached = True
    max_open = MAX_OPEN_PAYLOAD_BYTES

    def __init__(self) -> None:
        self.opened: list[tuple[RequestOpen, bool]] = []
        self.streams: dict[int, Any] = {}

    def open_stream(self, payload: bytes, sink: object, *, end: bool, now: float) -> object:
        assert sink is not None
        assert now > 0
        self.opened.append((unpack_open(payload), end))
        return object()


class Connection:
    """Connection that records refusals."""

    is_websocket = False

    def __init__(self, peer: str | None) -> None:
        self.peer_host = peer
        self.replies: list[bytes] = []

    def reusable(self) -> bool:
        return True

    def reply(self, reply: bytes, *, close: bool) -> None:
        assert not close
        self.replies.append(reply)


class IngressFixture:
    """An ingress with one service, `app.example.com`."""

    def __init__(
        self,
        *,
        websocket: bool = True,
        binding: OfferedSchemes = EITHER,
        sticky: bool = False,
        **api: Any,
    ) -> None:
        self.registry = Registry()
        self.session = Session()
        self.agent_session = join(self.registry, "home", self.session)
        claim = ServiceRegistration(
            self.agent_session,
            "app",
            b"app",
            ("app.example.com",),
            websocket,
            schemes=binding,
            sticky=sticky,
        )
        self.registry.register(claim)
        self.ingress = build_ingress(
            self.registry,
            api=ProxyApi(trusted_proxies=["127.0.0.0/8", "10.1.0.0/16"], hold_timeout=0.0, **api),
            https_port=444,
        )

    def ask(
        self, *fields: str, peer: str | None = "127.0.0.1", host: str = "app.example.com"
    ) -> Connection:
        head = parse_request(
            "\r\n".join(["GET /a%2Fb//?x HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()
        )
        connection = Connection(peer)
        self.ingress.request(
            cast("HttpServerConnection", connection), head, request_framing(head.fields)
        )
        return connection

    def fields(self, *fields: str, peer: str | None = "127.0.0.1") -> dict[str, list[str]]:
        assert not self.ask(*fields, peer=peer).replies
        lines = self.session.opened[-1][0].block.decode().split("\r\n")[1:-1]
        found: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            found.setdefault(name.lower(), []).append(value)
        return found


def run(check: Any) -> None:
    async def inside() -> None:
        check()

    asyncio.run(inside())


@pytest.mark.parametrize(
    ("peer", "said", "client", "proto"),
    [
        (
            "127.0.0.1",
            ["X-Real-IP: 203.0.113.7", "X-Forwarded-Proto: https"],
            "203.0.113.7",
            "https",
        ),
        ("127.0.0.1", ["X-Real-IP: 203.0.113.7", "X-Forwarded-Proto: http"], "203.0.113.7", "http"),
        ("10.1.2.3", ["X-Forwarded-For: 6.6.6.6, 203.0.113.7"], "203.0.113.7", "https"),
        ("127.0.0.1", ["X-Real-IP: 2001:DB8::0:1"], "2001:db8::1", "https"),
        ("127.0.0.1", ["X-Real-IP: 203.0.113.7:4711"], "203.0.113.7", "https"),
        ("127.0.0.1", ["X-Real-IP: [2001:db8::1]:4711"], "2001:db8::1", "https"),
        ("127.0.0.1", ["X-Real-IP: [2001:db8::1]"], "2001:db8::1", "https"),
        ("127.0.0.1", ["X-Real-IP: ::ffff:203.0.113.7"], "203.0.113.7", "https"),
        ("127.0.0.1", ["X-Real-IP: [::FFFF:cb00:7107]:1"], "203.0.113.7", "https"),
        ("127.0.0.1", ["X-Real-IP: fe80::1%eth0"], "fe80::1", "https"),
        (
            "127.0.0.1",
            ["X-Real-IP:", "X-Forwarded-For: 6.6.6.6, 203.0.113.7:80"],
            "203.0.113.7",
            "https",
        ),
        ("127.0.0.1", ["X-A: no word of it"], "127.0.0.1", "https"),
        ("::ffff:127.0.0.1", ["X-Real-IP: 203.0.113.7"], "203.0.113.7", "https"),
        ("::ffff:192.0.2.1", ["X-Real-IP: 203.0.113.7"], "192.0.2.1", "http"),
        ("fe80::1%eth0", ["X-Real-IP: 203.0.113.7"], "fe80::1", "http"),
        (None, [], "127.0.0.1", "https"),
        (None, ["X-Real-IP: 203.0.113.7"], "203.0.113.7", "https"),
        ("192.0.2.1", ["X-Real-IP: 203.0.113.7", "X-Forwarded-Proto: https"], "192.0.2.1", "http"),
        (
            "192.0.2.1",
            ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1"],
            "192.0.2.1",
            "http",
        ),
    ],
)
def test_only_a_trusted_proxy_is_believed(
    peer: str | None, said: list[str], client: str, proto: str
) -> None:
    def check() -> None:
        fields = IngressFixture().fields(
            *said, "X-Forwarded-Host: evil.example", "X-0Trust-Identity: root", peer=peer
        )
        assert fields["x-forwarded-for"] == [client]
        assert fields["x-real-ip"] == [client]
        assert fields["x-forwarded-proto"] == [proto]
        assert fields["x-forwarded-host"] == ["app.example.com"]
        assert not {"forwarded", "x-0trust-identity"} & set(fields)

    run(check)


UNREADABLE = [
    ["X-Real-IP: <script>"],
    ["X-Real-IP:"],
    ["X-Forwarded-For:"],
    ["X-Forwarded-For: 203.0.113.7,"],
    ["X-Forwarded-For: 203.0.113.7, unknown"],
    ["X-Real-IP: unix:", "X-Forwarded-For: 203.0.113.7"],
    ["X-Real-IP: 1.1.1.1", "X-Real-IP: 2.2.2.2"],
    ["X-Real-IP: ::1%a, 2.2.2.2"],
    ["X-Real-IP: 127.0.0.1%lo"],
    ["X-Real-IP: 127.0.0.01"],
    ["X-Real-IP: 127.1"],
    ["X-Real-IP: [127.0.0.1]:80"],
    ["X-Real-IP: 127.0.0.1:"],
    ["X-Real-IP: 127.0.0.1:http"],
    ["X-Real-IP: [::1"],
    ["X-Real-IP: ::1]:80"],
    ["X-Real-IP: ::1%"],
    ["X-Real-IP: \xb2.0.0.1"],
]


@pytest.mark.parametrize("peer", ["127.0.0.1", None])
@pytest.mark.parametrize("said", UNREADABLE)
def test_what_cannot_be_read_is_not_the_proxys_address(said: list[str], peer: str | None) -> None:
    def check() -> None:
        proxy = IngressFixture()
        with capture_logs() as logs:
            for _ in range(2):
                fields = proxy.fields(*said, peer=peer)
                assert (fields["x-forwarded-for"], fields["x-real-ip"]) == (
                    ["unknown"],
                    ["unknown"],
                )
        assert [line["event"] for line in logs] == [
            "a trusted proxy sent no readable client address"
        ]

    run(check)


def test_a_client_is_not_kept_at_an_agent_by_an_address_that_is_unknown() -> None:
    def check() -> None:
        (reply,) = IngressFixture(sticky=True).ask(*UNREADABLE[0]).replies
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"X-0Trust-Error: client_address_unreadable\r\n" in reply
        assert not IngressFixture(sticky=True).ask("X-Real-IP: 203.0.113.7").replies

    run(check)


PER_CLIENT = {
    "ip_allow": {
        "routes": [
            {
                "handle": [
                    {"type": "ip_allow", "config": {"allowed_ips": ["127.0.0.0/8", "203.0.113.7"]}}
                ]
            }
        ]
    },
    "ip_deny": {
        "routes": [{"handle": [{"type": "ip_deny", "config": {"denied_ips": ["192.0.2.1"]}}]}]
    },
    "rate_limit": {"global_middleware": [{"type": "rate_limit", "config": {"rate": "9/s"}}]},
    "shaping": {"traffic_shaping": {"per_ip_limit": "1MB/s"}},
    "websockets": {"max_websockets_per_client": 5},
}


@pytest.mark.anyio
@pytest.mark.parametrize("policy", PER_CLIENT.values(), ids=PER_CLIENT)
@pytest.mark.parametrize("client", ["garbage", "127.0.0.1, 127.0.0.1", "unknown", ""])
async def test_what_asks_for_an_address_refuses_without_one(
    policy: dict[str, Any], client: str
) -> None:
    proxy = ProxyFixture(policy)
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    answer = await proxy.ask("GET /", *upgrade, client=client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"X-0Trust-Error: client_address_unreadable\r\n" in answer
    assert proxy.opened == []
    assert await proxy.ask("GET /", *upgrade, client="203.0.113.7:99") == b""
    assert len(proxy.opened) == 1


@pytest.mark.anyio
async def test_where_nothing_asks_for_an_address_the_request_is_served() -> None:
    proxy = ProxyFixture(
        {
            "traffic_shaping": {"upload_limit": "1MB/s"},
            "max_websockets": 5,
            "max_request_body": "1MB",
        }
    )
    assert await proxy.ask("GET /", client="garbage") == b""
    assert b"\r\nX-Real-IP: unknown\r\n" in proxy.opened[-1].block


def test_fields_that_the_configuration_lets_pass() -> None:
    said = [
        "X-Client-IP: 1",
        "x-forwarded-port: 2",
        "CF-Connecting-IP: 3",
        "CF_Connecting_IP: 4",
        "X-Original-URL: /",
    ]

    def check() -> None:
        assert not {"x-client-ip", "cf-connecting-ip", "x-forwarded-port"} & set(
            IngressFixture().fields(*said)
        )
        fields = IngressFixture(
            pass_headers=["cf-connecting-ip", "X_FORWARDED_PORT", "X-Forwarded-For"]
        ).fields(*said)
        assert (fields["cf-connecting-ip"], fields["x-forwarded-port"]) == (["3"], ["2"])
        assert fields["x-forwarded-for"] == ["127.0.0.1"]
        assert not {"x-client-ip", "x-original-url", "cf_connecting_ip"} & set(fields)
        client = IngressFixture(pass_headers=["cf-connecting-ip"]).fields(*said, peer="192.0.2.1")
        assert "cf-connecting-ip" not in client, "only proxies that are believed set them"

    run(check)


def test_fields_that_pass_change_with_the_configuration() -> None:
    def check() -> None:
        proxy = IngressFixture()
        assert "true-client-ip" not in proxy.fields("True-Client-IP: 1")
        proxy.ingress.reconfigure(ProxyApi(pass_headers=["True-Client-IP"]), https_port=443)
        assert proxy.fields("True-Client-IP: 1", "True-Client-IP: 2")["true-client-ip"] == [
            "1",
            "2",
        ]
        proxy.ingress.reconfigure(ProxyApi(), https_port=443)
        assert "true-client-ip" not in proxy.fields("True-Client-IP: 1")

    run(check)


HTTP, HTTPS = "X-Forwarded-Proto: http", "X-Forwarded-Proto: https"


@pytest.mark.parametrize(
    ("binding", "said", "peer", "answer"),
    [
        (USUAL, HTTPS, "127.0.0.1", None),
        (USUAL, "X-Forwarded-Proto: HTTPS", "127.0.0.1", None),
        (
            USUAL,
            HTTP,
            "127.0.0.1",
            "301 Moved Permanently\r\nLocation: https://app.example.com:444/a%2Fb//?x\r\n",
        ),
        (
            USUAL,
            HTTPS,
            "192.0.2.1",
            "301 Moved Permanently\r\nLocation: https://app.example.com:444/a%2Fb//?x\r\n",
        ),
        (OfferedSchemes(http=False, https=True, redirect=False), HTTPS, "127.0.0.1", None),
        (OfferedSchemes(http=False, https=True, redirect=False), HTTP, "127.0.0.1", "wrong_scheme"),
        (
            OfferedSchemes(http=False, https=True, redirect=False),
            HTTPS,
            "192.0.2.1",
            "wrong_scheme",
        ),
        (OfferedSchemes(http=True, https=False, redirect=False), HTTP, "127.0.0.1", None),
        (
            OfferedSchemes(http=True, https=False, redirect=False),
            HTTPS,
            "127.0.0.1",
            "wrong_scheme",
        ),
        (
            OfferedSchemes(http=True, https=False, redirect=False),
            "X-A: no word of it",
            "127.0.0.1",
            "wrong_scheme",
        ),
    ],
)
def test_a_service_is_found_where_it_listens(
    binding: OfferedSchemes, said: str, peer: str, answer: str | None
) -> None:
    def check() -> None:
        proxy = IngressFixture(binding=binding)
        replies = proxy.ask(said, peer=peer).replies
        assert len(proxy.session.opened) == (answer is None)
        assert [answer.encode() in reply for reply in replies] == [True] if answer else not replies

    run(check)


@pytest.mark.anyio
async def test_http_is_sent_to_https_before_a_policy_is_asked() -> None:
    proxy = ProxyFixture({"routes": [ADMIN, {}]})
    said = await proxy.ask("POST /admin", HTTP, "Content-Length: 4", body=b"abcd")
    assert said.startswith(
        b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://app.example.com/admin\r\n"
    )
    assert proxy.opened == []


@pytest.mark.anyio
@pytest.mark.parametrize(("said", "proto"), [(HTTP, b"http"), (HTTPS, b"https")])
async def test_a_guarded_service_is_told_the_scheme(said: str, proto: bytes) -> None:
    proxy = ProxyFixture({"routes": [ADMIN, {}]}, binding=EITHER)
    assert await proxy.ask("GET /", said) == b""
    assert b"\r\nX-Forwarded-Proto: %b\r\n" % proto in proxy.opened[-1].block


def test_the_target_is_forwarded_as_it_came() -> None:
    def check() -> None:
        proxy = IngressFixture()
        proxy.ask()
        request, end = proxy.session.opened[0]
        assert request.block.startswith(b"GET /a%2Fb//?x HTTP/1.1\r\n")
        assert end

    run(check)


UPGRADE = ("Connection: keep-alive, UPGRADE", "Upgrade: WebSocket")


@pytest.mark.parametrize("websocket", [True, False])
def test_an_upgrade_passes_where_the_service_allows_it(websocket: bool) -> None:
    def check() -> None:
        proxy = IngressFixture(websocket=websocket)
        replies = proxy.ask(*UPGRADE).replies
        if websocket:
            request, end = proxy.session.opened[0]
            assert request.flags & FLAG_UPGRADE
            assert not end
        else:
            assert replies[0].startswith(b"HTTP/1.1 403 ")
            assert b"X-0Trust-Error: upgrade_refused\r\n" in replies[0]
            assert not proxy.session.opened
            assert not proxy.ask().replies

    run(check)


def test_each_reason_has_its_status() -> None:
    def check() -> None:
        proxy = IngressFixture()
        assert b"HTTP/1.1 404 " in proxy.ask(host="other.example.com").replies[0]
        proxy.session.can_open = False
        overloaded = proxy.ask().replies[0]
        assert b"HTTP/1.1 503 " in overloaded
        assert b"X-0Trust-Error: overloaded" in overloaded
        assert b"Retry-After: " in overloaded
        proxy.registry.remove(proxy.agent_session)
        lost = proxy.ask().replies[0]
        assert b"HTTP/1.1 503 " in lost
        assert b"X-0Trust-Error: no_agent" in lost

    run(check)


# Services with a policy

ADMIN = {
    "match": {"path": "/admin/*"},
    "handle": [{"type": "ip_allow", "config": {"allowed_ips": ["192.0.2.0/24"]}}],
}
USERS = {"ann": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()}
LOGIN = {"security": {"auth": {"type": "basic_auth", "config": {"users": USERS}}}}
SOCKET = ("Connection: Upgrade", "Upgrade: websocket")


class Slow(threading.Event):
    """Event that delays password hashes; `begun` has the hashes that threads have started."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[bytes] = []


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    may, check = Slow(), bcrypt.checkpw

    def checked(password: bytes, hashed: bytes) -> bool:
        may.begun.append(password)
        assert may.wait(10)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", checked)
    monkeypatch.setattr(
        verification_pool, "THREADS", 1
    )  # so that they are begun in the order of their turns
    return may


async def settled(proxy: MultiAgentProxy) -> None:
    """All threads are done, and what follows from that has arrived."""
    await proxy.hear()
    async with asyncio.timeout(10):
        while proxy.tasks.running:
            await asyncio.sleep(0.005)
    await proxy.hear()


def authorization(password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"ann:{password}".encode()).decode()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("target", "client", "code"),
    [
        ("/", "203.0.113.7", None),
        ("/admin/x", "192.0.2.9", None),
        ("/administration", "203.0.113.7", None),
        ("/admin/x?y", "203.0.113.7", "ip_refused"),
        ("/%61dmin", "203.0.113.7", "ip_refused"),
        ("//admin", "203.0.113.7", "ambiguous_path"),
        ("/x/../admin", "203.0.113.7", "ambiguous_path"),
        ("/%2561dmin/", "203.0.113.7", "ambiguous_path"),
        ("/;x/admin", "203.0.113.7", "ambiguous_path"),
        ("/%u0061dmin", "203.0.113.7", "ambiguous_path"),
        ("/%c0%afadmin", "203.0.113.7", "ambiguous_path"),
        ("/é?ü", "203.0.113.7", None),
        ("http://app.example.com/admin", "203.0.113.7", "ip_refused"),
    ],
)
@pytest.mark.parametrize("fields", [(), SOCKET])
async def test_a_request_is_judged_by_path_and_client(
    target: str, client: str, code: str | None, fields: tuple[str, ...]
) -> None:
    proxy = ProxyFixture({"routes": [ADMIN, {}]})
    said = await proxy.ask(f"GET {target}", "X-Forwarded-For: 192.0.2.1", *fields, client=client)
    if code is None:
        assert (said, len(proxy.opened)) == (b"", 1)
    else:
        assert f"X-0Trust-Error: {code}\r\n".encode() in said
        assert re.search(rb"request id: [0-9a-z]+-1\n", said)
        assert not proxy.opened


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("debug=1", "ip_refused"),
        ("Debug=1", "ambiguous_query"),
        ("x;debug=1", "ambiguous_query"),
        ("debug=2", None),
        ("x=" + "a" * 9_000, "query_too_long"),
        ("&" * 256, "too_many_parameters"),
    ],
)
async def test_a_request_is_judged_by_its_query(query: str, code: str | None) -> None:
    proxy = ProxyFixture({"routes": [{**ADMIN, "match": {"query": {"debug": "1"}}}, {}]})
    said = await proxy.ask(f"GET /?{query}", client="203.0.113.7")
    assert bool(proxy.opened) is (code is None)
    assert said == b"" if code is None else f"X-0Trust-Error: {code}\r\n".encode() in said


@pytest.mark.anyio
async def test_the_client_is_who_the_trusted_proxy_says() -> None:
    """The peer is not a trusted proxy: its header fields about the client are ignored."""
    proxy = ProxyFixture({"routes": [ADMIN, {}]}, binding=EITHER)
    proxy.connection.peer_host = "203.0.113.7"
    assert b"ip_refused" in await proxy.ask("GET /admin", client="192.0.2.1")
    proxy.connection.peer_host = "192.0.2.1"
    assert await proxy.ask("GET /admin", client="203.0.113.7") == b""


@pytest.mark.anyio
async def test_a_connection_goes_on_after_an_answer() -> None:
    proxy = ProxyFixture({"routes": [ADMIN, {}]})
    said = await proxy.ask("GET /admin")
    assert said.startswith(b"HTTP/1.1 403 ") and b"Connection" not in said
    assert b"HTTP/1.1 403 " in await proxy.ask("HEAD /admin")
    assert await proxy.ask("GET /") == b""


@pytest.mark.anyio
async def test_what_handlers_change_reaches_the_agent() -> None:
    edits = {"set": {"X-User": "me"}, "delete": ["Cookie"]}
    handlers = [
        {"type": "headers", "config": {"request": edits}},
        {"type": "rewrite", "config": {"strip_prefix": "/api"}},
    ]
    proxy = ProxyFixture({"routes": [{"handle": handlers}]})
    await proxy.ask("GET /api/x%2Fy?z", "Cookie: c", "x_user: forged", "Accept: a")
    assert (
        proxy.opened[0].block
        == b"GET /x%2Fy?z HTTP/1.1\r\nHost: app.example.com\r\nAccept: a\r\nX-User:"
        b" me\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host:"
        b" app.example.com\r\nX-Real-IP: 203.0.113.7\r\n"
    )


@pytest.mark.anyio
async def test_an_answer_that_was_asked_for_is_no_error() -> None:
    proxy = ProxyFixture(
        {"routes": [{"handle": [{"type": "respond", "config": {"body": "hello"}}]}]}
    )
    said = await proxy.ask("GET /")
    assert said.startswith(b"HTTP/1.1 200 OK\r\n") and said.endswith(
        b"\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert b"X-0Trust-Error" not in said


@pytest.mark.anyio
async def test_a_login_is_waited_for_and_remembered(slow: Slow) -> None:
    proxy = ProxyFixture(LOGIN)
    assert b"HTTP/1.1 401 " in await proxy.ask("GET /")
    assert await proxy.ask("GET /", authorization("secret")) == b""
    assert not proxy.opened
    slow.set()
    await proxy.settled()
    assert b"Authorization" not in proxy.opened[0].block
    assert b"200 OK" in await proxy.answer(b"HTTP/1.1 200 OK\r\n", kind=1, body=b"x")
    await proxy.ask("GET /", authorization("secret"))
    assert not proxy.tasks.running, "what was right is not computed again"
    assert len(proxy.opened) == 2


@pytest.mark.anyio
async def test_a_wrong_password(slow: Slow) -> None:
    proxy = ProxyFixture(LOGIN)
    await proxy.ask("GET /", authorization("wrong"))
    slow.set()
    assert b"HTTP/1.1 401 " in await proxy.settled()
    assert not proxy.opened


@pytest.mark.anyio
@pytest.mark.parametrize("framing", ["Content-Length: 300000", "Transfer-Encoding: chunked"])
async def test_a_body_that_comes_before_the_login_is_decided(slow: Slow, framing: str) -> None:
    """It is not lost, and while nothing is decided no more of it is read."""
    proxy = ProxyFixture(LOGIN)
    chunked = "chunked" in framing
    first = b"493e0\r\n" * chunked + b"a" * 100_000
    await proxy.ask("POST /", authorization("secret"), framing, body=first)
    assert not proxy.transport.is_reading()
    slow.set()
    await proxy.settled()
    assert proxy.transport.is_reading()
    proxy.connection.data_received(b"b" * 200_000 + b"\r\n0\r\n\r\n" * chunked)
    stream, sink = proxy.last
    for _ in range(20):
        proxy.pair.pump()
        proxy.agent.session.consumed(stream, stream.window.unconsumed, 1.0)
    assert sink.body == b"a" * 100_000 + b"b" * 200_000
    assert sink.ended


@pytest.mark.anyio
@pytest.mark.parametrize("trailers", [b"", b"X-Checksum: 1\r\n"])
async def test_a_whole_request_that_waits(slow: Slow, trailers: bytes) -> None:
    proxy = ProxyFixture(LOGIN)
    body = b"2\r\nhi\r\n0\r\n" + trailers + b"\r\n"
    await proxy.ask("POST /", authorization("secret"), "Transfer-Encoding: chunked", body=body)
    slow.set()
    await proxy.settled()
    _, sink = proxy.last
    assert (bytes(sink.body), sink.ended, sink.trailer or b"") == (b"hi", True, trailers)


@pytest.mark.anyio
async def test_a_body_behind_a_wrong_password(slow: Slow) -> None:
    proxy = ProxyFixture(LOGIN)
    await proxy.ask("POST /", authorization("wrong"), "Content-Length: 10", body=b"12345")
    slow.set()
    said = await proxy.settled()
    assert b"HTTP/1.1 401 " in said and b"Connection: close\r\n" in said
    assert proxy.transport.is_reading(), "what still comes is thrown away"


@pytest.mark.anyio
async def test_a_client_that_does_not_wait(slow: Slow) -> None:
    """The backend gets no request for it; the next one with the same password does not wait."""
    proxy = ProxyFixture(LOGIN)
    await proxy.ask("GET /", authorization("secret"))
    proxy.transport.abort()
    await proxy.hear()
    slow.set()
    await proxy.settled()
    assert not proxy.opened
    proxy.connect()
    await proxy.ask("GET /", authorization("secret"))
    assert not proxy.tasks.running
    assert len(proxy.opened) == 1


@pytest.mark.anyio
async def test_a_client_that_leaves_between_two_logins(slow: Slow) -> None:
    """The first one is remembered, the second is not asked."""
    first = {"type": "basic_auth", "config": {"users": USERS, "realm": "first"}}
    proxy = ProxyFixture({**LOGIN, "global_middleware": [first]})
    await proxy.ask("GET /", authorization("secret"))
    proxy.transport.abort()
    await proxy.hear()
    slow.set()
    await proxy.settled()
    assert slow.begun == [b"secret"]
    proxy.connect()
    await proxy.ask("GET /", authorization("secret"))
    await proxy.settled()
    assert slow.begun == [b"secret"] * 2
    assert len(proxy.opened) == 1


async def guess(proxy: ProxyFixture, count: int) -> None:
    """Requests with wrong passwords of one client, each on its own connection, all waiting."""
    for number in range(count):
        assert (
            await proxy.ask("GET /", authorization(f"guess-{number}"), client="192.0.2.66") == b""
        )
        proxy.connect()


@pytest.mark.anyio
async def test_a_client_that_leaves_before_its_turn(slow: Slow) -> None:
    """The server does not compute its password."""
    proxy = ProxyFixture(LOGIN)
    await guess(proxy, 1)
    await proxy.ask("GET /", authorization("secret"))
    proxy.transport.abort()
    await proxy.hear()
    slow.set()
    await proxy.settled()
    assert slow.begun == [b"guess-0"]


@pytest.mark.anyio
async def test_guesses_keep_no_other_client_out(slow: Slow) -> None:
    """One client network takes the thread and its places: others log in, it gets Retry-After."""
    proxy = ProxyFixture(LOGIN)
    await guess(proxy, 1 + MAX_WAITING_OF_NETWORK)
    said = await proxy.ask("GET /", authorization("secret"), client="192.0.2.66")
    assert said.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 1\r\n" in said
    assert b"X-0Trust-Error: auth_busy\r\n" in said
    assert await proxy.ask("GET /", authorization("secret"), client="192.0.2.7") == b""
    slow.set()
    await proxy.settled()
    assert len(proxy.opened) == 1
    assert slow.begun[:3] == [b"guess-0", b"guess-1", b"secret"]


@pytest.mark.anyio
async def test_a_login_that_was_right_waits_for_no_guess(slow: Slow) -> None:
    proxy = ProxyFixture(LOGIN)
    slow.set()
    await proxy.ask("GET /", authorization("secret"))
    await proxy.settled()
    slow.clear()
    proxy.connect()
    await guess(proxy, 1 + MAX_WAITING_OF_NETWORK)
    await proxy.ask("GET /", authorization("secret"), client="192.0.2.66")
    assert len(proxy.opened) == 2
    slow.set()


@pytest.mark.anyio
async def test_a_grant_that_is_taken_back_while_a_login_is_computed(slow: Slow) -> None:
    proxy = ProxyFixture(LOGIN)
    await proxy.ask("POST /", authorization("secret"), body=b"")
    (claim,) = proxy.agent_session.services.values()
    proxy.registry.register(claim.with_hosts(()))
    slow.set()
    assert b"X-0Trust-Error: unknown_host\r\n" in await proxy.settled()
    assert not proxy.opened


@pytest.mark.anyio
async def test_rules_that_change_while_a_login_is_computed_hold(slow: Slow) -> None:
    proxy = ProxyFixture(LOGIN)
    await proxy.ask("GET /", authorization("secret"))
    deny = {"type": "ip_deny", "config": {"denied_ips": ["203.0.113.0/24"]}}
    proxy.register({**LOGIN, "global_middleware": [deny]})
    slow.set()
    assert b"HTTP/1.1 403 " in await proxy.settled()
    assert not proxy.opened


@pytest.mark.anyio
async def test_a_login_is_computed_once_though_the_rules_change_meanwhile(slow: Slow) -> None:
    proxy = ProxyFixture(LOGIN)
    await proxy.ask("GET /", authorization("secret"))
    proxy.register({**LOGIN, "max_request_body": "1MB"})
    slow.set()
    await proxy.settled()
    assert len(proxy.opened) == 1


@pytest.mark.anyio
async def test_an_agent_that_leaves_while_a_login_is_computed(slow: Slow) -> None:
    proxy = ProxyFixture(LOGIN)
    await proxy.ask("GET /", authorization("secret"))
    proxy.pair.server.session.close(Code.GOING_AWAY, "gone")
    slow.set()
    assert b"X-0Trust-Error: overloaded\r\n" in await proxy.settled()


@pytest.mark.anyio
async def test_a_login_that_was_right_waits_for_its_agent(slow: Slow) -> None:
    """The body is kept through both waits; the second wait keeps the login."""
    proxy = ProxyFixture(LOGIN)
    proxy.ingress.reconfigure(ProxyApi(hold_timeout=30), https_port=443)
    await proxy.ask("POST /", authorization("secret"), "Content-Length: 10", body=b"first")
    lose_link(proxy)
    slow.set()
    assert await proxy.settled() == b""
    assert proxy.ingress.pending == 1
    assert not proxy.transport.is_reading()
    assert await restore_link(proxy) == b""
    proxy.connection.data_received(b"later")
    await proxy.hear()
    assert (bytes(proxy.last[1].body), proxy.last[1].ended) == (b"firstlater", True)
    assert b" 200 OK" in await proxy.answer(b"HTTP/1.1 200 OK\r\n", kind=1, body=b"x")


@pytest.mark.anyio
async def test_each_agent_asks_for_the_login(slow: Slow) -> None:
    slow.set()
    proxy = MultiAgentProxy(LOGIN, LOGIN)
    await proxy.ask("POST /", authorization("secret"), "Content-Length: 4", body=b"body")
    for agent in proxy.agents:
        await settled(proxy)
        assert (bytes(agent.last[1].body), agent.last[1].ended) == (b"body", True)
        agent.refuse(Code.UPSTREAM_UNREACHABLE)
    assert b"X-0Trust-Error: upstream_unreachable\r\n" in await proxy.hear()
    assert proxy.counts == [1, 1]
    assert await proxy.ask("GET /", authorization("secret")) == b"", "the connection goes on"


@pytest.mark.anyio
async def test_sockets_are_counted_until_they_end() -> None:
    proxy = ProxyFixture({"max_websockets_per_client": 1})
    await proxy.ask("GET /", *SOCKET)
    proxy.connect()
    assert b"HTTP/1.1 429 " in await proxy.ask("GET /", *SOCKET)
    assert b"X-0Trust-Error: websocket_limit\r\n" in await proxy.ask("GET /", *SOCKET)
    assert await proxy.ask("GET /", *SOCKET, client="203.0.113.8") == b""
    first = min(proxy.agent.sinks)
    proxy.agent.session.reset(proxy.agent.session.streams[first], Code.CANCELLED)
    proxy.pair.pump()
    proxy.connect()
    assert await proxy.ask("GET /", *SOCKET) == b""


@pytest.mark.anyio
async def test_a_policy_holds_from_the_next_request_on() -> None:
    proxy = ProxyFixture({"routes": [{}]})
    await proxy.ask("GET /", *SOCKET)
    proxy.register(
        {"global_middleware": [{"type": "ip_deny", "config": {"denied_ips": ["0.0.0.0/0"]}}]}
    )
    proxy.connect()
    assert b"ip_refused" in await proxy.ask("GET /")
    assert proxy.last[1].over is None, "what is open goes on"
    proxy.register(None)
    assert await proxy.ask("GET /") == b""


# Refusals, as a browser's script sees them

ORIGIN = "https://app.example"
READABLE: dict[str, Any] = {
    "security": {"cors": {"origins": [ORIGIN], "allow_credentials": True}},
    "routes": [
        {"match": {"path": "/admin/*"}},
        {
            "handle": [
                {
                    "type": "headers",
                    "config": {"response": {"set": {"X-Frame-Options": "DENY", "Expires": "0"}}},
                }
            ]
        },
    ],
}


def readable(said: bytes) -> bool:
    lines = said.partition(b"\r\n\r\n")[0].split(b"\r\n")
    allowed = lines.count(b"Access-Control-Allow-Origin: https://app.example")
    assert allowed == lines.count(b"Access-Control-Allow-Credentials: true") <= 1
    assert lines.count(b"Vary: Origin") == 1
    return bool(allowed)


async def lost(proxy: ProxyFixture) -> bytes:
    proxy.registry.remove(proxy.agent_session)
    return await proxy.ask("GET /", f"Origin: {ORIGIN}")


async def overloaded(proxy: ProxyFixture) -> bytes:
    proxy.pair.server.session.going_away = True
    return await proxy.ask("GET /", f"Origin: {ORIGIN}")


async def ambiguous(proxy: ProxyFixture) -> bytes:
    return await proxy.ask("GET /x/..%2fadmin/", f"Origin: {ORIGIN}")


async def too_many_parameters(proxy: ProxyFixture) -> bytes:
    proxy.register(
        {**READABLE, "routes": [{"match": {"query": {"debug": "1"}}}, *READABLE["routes"]]}
    )
    return await proxy.ask(f"GET /?{'a=b&' * 300}", f"Origin: {ORIGIN}")


async def too_long(proxy: ProxyFixture) -> bytes:
    return await proxy.ask(f"GET /{'a' * 5000}", f"Origin: {ORIGIN}")


async def over_its_share(proxy: ProxyFixture) -> bytes:
    proxy.ingress.policy_time.charge("home", 2.0, perf_counter())
    return await proxy.ask("GET /", f"Origin: {ORIGIN}")


async def failed(proxy: ProxyFixture) -> bytes:
    await proxy.ask("GET /", f"Origin: {ORIGIN}")
    proxy.agent.session.reset(proxy.last[0], Code.UPSTREAM_UNREACHABLE, "connection refused")
    return await proxy.hear()


async def too_large(proxy: ProxyFixture) -> bytes:
    return await proxy.ask("POST /", f"Origin: {ORIGIN}", "Content-Length: 2000")


async def too_often(proxy: ProxyFixture) -> bytes:
    limit = {"type": "rate_limit", "config": {"rate": "1/hour"}}
    proxy.register({**READABLE, "global_middleware": [limit]})
    await proxy.ask("GET /")
    await proxy.answer(b"HTTP/1.1 204 No Content\r\n")
    return await proxy.ask("GET /", f"Origin: {ORIGIN}")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fail", "status"),
    [
        (lost, b"503"),
        (overloaded, b"503"),
        (ambiguous, b"400"),
        (too_many_parameters, b"400"),
        (too_long, b"414"),
        (over_its_share, b"503"),
        (failed, b"502"),
        (too_large, b"413"),
        (too_often, b"429"),
    ],
)
async def test_a_refusal_says_who_may_read_it(
    fail: Callable[[ProxyFixture], Awaitable[bytes]], status: bytes
) -> None:
    said = await fail(ProxyFixture({**READABLE, "max_request_body": "1kB"}))
    assert said.startswith(b"HTTP/1.1 " + status)
    assert readable(said)
    assert b"X-0Trust-Error: " in said
    assert b"Cache-Control: no-store\r\n" in said


@pytest.mark.anyio
async def test_a_service_that_does_not_look_at_path_or_query_takes_any() -> None:
    proxy = ProxyFixture({"routes": [{"match": {"method": "GET"}}]})
    assert await proxy.ask(f"GET /{'a' * 5000}/../x?{'a=b&' * 300}") == b""
    assert len(proxy.opened) == 1


@pytest.mark.anyio
async def test_an_agent_whose_policies_take_too_long_gets_no_more_requests() -> None:
    proxy = ProxyFixture(READABLE)
    with capture_logs() as lines:
        for _ in range(3):
            said = await over_its_share(proxy)
            assert b"X-0Trust-Error: overloaded\r\n" in said
            assert b"Retry-After: 3\r\n" in said
    assert [line["event"] for line in lines] == [
        "policies take too much time: new requests get 503"
    ]
    assert not proxy.opened
    proxy.register(None)
    assert await proxy.ask("GET /") == b""
    assert len(proxy.opened) == 1


@pytest.mark.anyio
async def test_what_a_request_costs_is_charged_to_its_agent_also_where_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = ProxyFixture({"routes": [ADMIN, {}]})
    charged = []
    monkeypatch.setattr(
        proxy.ingress.policy_time,
        "charge",
        lambda agent, seconds, now: charged.append((agent, seconds > 0)),
    )
    await proxy.ask("GET /")
    assert charged == [("home", True)]
    proxy.connect()
    await proxy.ask("GET /x/../y")
    assert charged == [("home", True)] * 3  # once more for who may read the refusal


@pytest.mark.anyio
async def test_a_preflight_does_not_need_the_agent() -> None:
    proxy = ProxyFixture(READABLE)
    proxy.registry.remove(proxy.agent_session)
    asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-token")
    said = await proxy.ask("OPTIONS /", f"Origin: {ORIGIN}", *asked)
    assert said.startswith(b"HTTP/1.1 204 ")
    assert b"Access-Control-Allow-Origin: https://app.example\r\n" in said
    foreign = await proxy.ask("OPTIONS /", "Origin: https://evil.example", *asked)
    assert foreign.startswith(b"HTTP/1.1 403 ")
    assert (await proxy.ask("POST /", f"Origin: {ORIGIN}")).startswith(b"HTTP/1.1 503 ")


@pytest.mark.anyio
async def test_a_refusal_says_so_to_nobody_else() -> None:
    proxy = ProxyFixture(READABLE)
    await proxy.ask("GET /", "Origin: https://evil.example")
    proxy.agent.session.reset(proxy.last[0], Code.UPSTREAM_TIMEOUT, "")
    said = await proxy.hear()
    assert said.startswith(b"HTTP/1.1 504 ")
    assert not readable(said)


@pytest.mark.anyio
async def test_a_refusal_has_the_fields_that_the_service_sets_but_those_of_content() -> None:
    said = await failed(ProxyFixture(READABLE))
    assert b"X-Frame-Options: DENY\r\n" in said
    assert b"Expires" not in said


@pytest.mark.anyio
async def test_what_a_service_without_rules_says_is_left_alone() -> None:
    proxy = ProxyFixture({"max_request_body": "1MB"})
    for fail in (failed, lost):
        said = await fail(proxy)
        assert b"Access-Control" not in said
        assert b"Vary" not in said


# More than the server takes

ADDED = {f"X-Added-{number}": "a" * 3000 for number in range(3)}
FAT: dict[str, Any] = {
    "global_middleware": [{"type": "headers", "config": {"request": {"set": ADDED}}}]
}


@pytest.mark.anyio
@pytest.mark.parametrize("size", [65_000 - 9000, 65_000])
async def test_a_head_that_is_too_large_with_what_the_service_adds_is_not_tried_again(
    size: int,
) -> None:
    proxy = MultiAgentProxy(FAT, FAT, hold_timeout=30)
    said = await proxy.ask("GET /", f"X-Own: {'o' * size}")
    if size < 65_000:
        assert (said, sum(proxy.counts)) == (b"", 1)
        return
    assert said.startswith(b"HTTP/1.1 431 ")
    assert b"X-0Trust-Error: head_too_large\r\n" in said
    assert b"Retry-After" not in said
    assert proxy.counts == [0, 0]
    assert proxy.ingress.refused == {"head_too_large": 1}
    assert (await proxy.ask("GET /"), sum(proxy.counts)) == (b"", 1), "the connection goes on"


def busy(streams: int) -> dict[str, SessionStats]:
    usage = SessionStats()
    usage.streams = streams
    return {"home": usage}


@pytest.mark.anyio
@pytest.mark.parametrize("limits", [Limits(requests=10), Limits(requests_per_agent=10)])
async def test_an_overload_is_answered_at_once_and_ends_nothing(limits: Limits) -> None:
    overload = LoadShedding(limits)
    proxy = ProxyFixture(READABLE, overload=overload)
    assert b"101 Switching" in await chatting(proxy)
    stream, sink = proxy.last
    overload.sample(busy(10), pending=0, lag=0.0)
    first = proxy.connection
    proxy.connect()
    with capture_logs() as lines:
        said = [await proxy.ask("GET /", f"Origin: {ORIGIN}") for _ in range(3)]
    assert [line for line in lines if line["event"] == "request refused"] == []
    for one in said:
        assert one.startswith(b"HTTP/1.1 503 ")
        assert b"X-0Trust-Error: overloaded\r\n" in one
        assert b"Retry-After: 5\r\n" in one
        assert readable(one)
    assert proxy.ingress.refused == {"overloaded": 3}
    first.data_received(b"goes on")
    proxy.pair.pump()
    assert bytes(sink.body) == b"goes on"
    assert proxy.agent.session.streams[stream.id] is stream
    for _ in range(CALM):
        overload.sample(busy(8), pending=0, lag=0.0)
    assert await proxy.ask("GET /") == b""
    assert len(proxy.opened) == 2


@pytest.mark.anyio
async def test_a_request_is_refused_once_where_there_is_too_much_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overload = LoadShedding(Limits(requests=10))
    proxy = ProxyFixture({}, overload=overload)
    overload.sample(busy(10), pending=0, lag=0.0)
    judged: list[str] = []
    check = LoadShedding.check

    def counted(self: LoadShedding, agent: str) -> None:
        judged.append(agent)
        check(self, agent)

    monkeypatch.setattr(LoadShedding, "check", counted)
    assert b"X-0Trust-Error: overloaded\r\n" in await proxy.ask("GET /")
    assert len(judged) == 1


@pytest.mark.anyio
async def test_other_refusals_keep_their_lines_meanwhile() -> None:
    overload = LoadShedding(Limits(requests=10))
    proxy = ProxyFixture({}, overload=overload)
    overload.sample(busy(10), pending=0, lag=0.0)
    proxy.registry.remove(proxy.agent_session)
    with capture_logs() as lines:
        assert (await proxy.ask("GET /")).startswith(b"HTTP/1.1 503 ")
    assert [line["code"] for line in lines] == ["no_agent"]


@pytest.mark.anyio
async def test_requests_and_what_becomes_of_them_are_counted() -> None:
    proxy = ProxyFixture({"max_request_body": "1kB", "routes": [{"match": {"path": "/app/*"}}]})
    await proxy.ask("GET /elsewhere")
    await proxy.ask("GET /app/")
    proxy.agent.session.reset(proxy.last[0], Code.UPSTREAM_UNREACHABLE, "connection refused")
    await proxy.hear()
    await proxy.ask("POST /app/", "Content-Length: 2000")
    assert proxy.ingress.requests == 3
    assert proxy.ingress.refused == {"no_route": 1, "body_too_large": 1}
    assert proxy.ingress.failed == {"upstream_unreachable": 1}


async def chatting(proxy: ProxyFixture) -> bytes:
    await proxy.ask("GET /", *SOCKET)
    return await proxy.answer(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n", kind=KIND_TUNNEL
    )
