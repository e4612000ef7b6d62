"""Tests of zerotrust.server.proxy.challenge_relay, through the ingress."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from tests.support.ports import free_port
from tests.support.waiting import eventually
from tests.unit.server.proxy_fixture import ProxyFixture
from zerotrust.server.identity.membership import MemberServer
from zerotrust.server.proxy import challenge_relay
from zerotrust.server.proxy.challenge_relay import MAX_ASKED, ChallengeRelay

pytestmark = pytest.mark.anyio

TOKEN = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
KEY_AUTHORIZATION = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
CHALLENGE = f"GET /.well-known/acme-challenge/{TOKEN}"
KNOWN = f"HTTP/1.1 200 OK\r\nContent-Length: {len(KEY_AUTHORIZATION)}\r\n\r\n{KEY_AUTHORIZATION}"
UNKNOWN = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
ADDRESSES = ("127.0.0.1", "127.0.0.2")


class Caddys:
    """The Caddys of two members, at one port; each answers as its server says.

    Attributes:
        answers: what each answers, None for silence.
        heads: the heads of the requests that they got.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.answers: list[str | None] = [UNKNOWN, UNKNOWN]
        self.heads: list[str] = []
        self.release = asyncio.Event()

    def members(self) -> list[MemberServer]:
        return [
            MemberServer(str(number), f"{address}:8443", "1", 0)
            for number, address in enumerate(ADDRESSES)
        ]

    def accept(
        self, number: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], "asyncio.Future[None]"]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            except asyncio.IncompleteReadError:
                return
            said = self.answers[number]
            if said is None:
                await self.release.wait()
            else:
                writer.write(said.encode())
            writer.close()

        return answer  # type: ignore[return-value]


@pytest.fixture
async def caddys() -> AsyncIterator[Caddys]:
    made = Caddys()
    servers = [
        await asyncio.start_server(made.accept(number), address, made.port)
        for number, address in enumerate(ADDRESSES)
    ]
    yield made
    made.release.set()
    for server in servers:
        server.close()
        await server.wait_closed()


class Relaying(ProxyFixture):
    """An ingress with a relay, and the answers to its requests."""

    def __init__(self, caddys: Caddys) -> None:
        super().__init__({})
        self.certified = {"app.example.com"}
        self.relay = ChallengeRelay(
            caddys.members, self.certified.__contains__, self.tasks, http_port=caddys.port
        )
        self.ingress.challenges = self.relay

    async def answered(self, start: str, *fields: str) -> bytes:
        """Send a request; return its answer, empty if it goes on to the agent."""
        await self.ask(start, *fields)
        await eventually(lambda: not self.relay.asked, "the members have answered")
        return await self.hear()


@pytest.fixture
async def relaying(caddys: Caddys) -> Relaying:
    return Relaying(caddys)


@pytest.mark.parametrize("number", [0, 1])
async def test_the_member_that_knows_the_challenge_answers(
    caddys: Caddys, relaying: Relaying, number: int
) -> None:
    caddys.answers[number] = KNOWN
    answer = await relaying.answered(CHALLENGE)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")
    assert answer.endswith(b"\r\n\r\n" + KEY_AUTHORIZATION.encode())
    assert not relaying.opened
    head = caddys.heads[0]
    assert head.startswith(f"{CHALLENGE}?0trust-member HTTP/1.1\r\n")
    assert "\r\nHost: app.example.com\r\n" in head
    assert "203.0.113.7" not in head, "nothing of the request but host and token"


async def test_a_silent_member_delays_nothing(caddys: Caddys, relaying: Relaying) -> None:
    caddys.answers = [None, KNOWN]
    await relaying.ask(CHALLENGE)
    await eventually(lambda: relaying.relay.asked == 1, "one has answered")
    assert KEY_AUTHORIZATION.encode() in await relaying.hear()


@pytest.mark.parametrize(
    "answer",
    [
        UNKNOWN,
        KNOWN.replace("200 OK", "404 Not Found"),
        KNOWN.replace(TOKEN, TOKEN[::-1]),
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{KEY_AUTHORIZATION}{'x' * 999}",
        "no HTTP\r\n\r\n",
        "",
    ],
)
async def test_a_challenge_that_no_member_knows_goes_on_to_the_service(
    caddys: Caddys, relaying: Relaying, answer: str
) -> None:
    """It may be for a program behind the agent that orders certificates itself."""
    caddys.answers = [answer, answer]
    assert await relaying.answered(CHALLENGE) == b""
    assert CHALLENGE.encode() in relaying.opened[0].block


async def test_members_that_do_not_answer_in_time(
    caddys: Caddys, relaying: Relaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge_relay, "TIMEOUT", 0.2)
    caddys.answers = [None, None]
    silent = [f"{one}:{caddys.port}" for one in ADDRESSES]
    with capture_logs() as logs:
        for _ in range(2):
            assert await relaying.answered(CHALLENGE) == b""
            relaying.connect()
        assert [line["member"] for line in logs] == silent, "one line each"
        caddys.answers[0] = UNKNOWN
        await relaying.answered(CHALLENGE)
        relaying.connect()
        caddys.answers[0] = None
        await relaying.answered(CHALLENGE)
    assert [line["member"] for line in logs] == [*silent, silent[0]]


async def test_a_server_that_is_asked_does_not_ask_on(caddys: Caddys, relaying: Relaying) -> None:
    caddys.answers = [KNOWN, KNOWN]
    answer = await relaying.ask(f"{CHALLENGE}?0trust-member")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert not caddys.heads
    assert not relaying.opened


async def test_what_is_not_asked(caddys: Caddys, relaying: Relaying) -> None:
    caddys.answers = [KNOWN, KNOWN]
    for start in (f"{CHALLENGE}?x", "GET /.well-known/acme-challenge/x", "GET /"):
        await relaying.ask(start)
        relaying.connect()
    relaying.certified.clear()
    await relaying.ask(CHALLENGE)
    relaying.connect()
    relaying.certified.add("app.example.com")
    relaying.relay.http_port = 0
    await relaying.ask(CHALLENGE)
    assert len(relaying.opened) == 5
    assert not caddys.heads


async def test_a_client_that_leaves_gets_no_answer(caddys: Caddys, relaying: Relaying) -> None:
    caddys.answers = [None, None]
    await relaying.ask(CHALLENGE)
    await eventually(lambda: len(caddys.heads) == 2, "the members are asked")
    relaying.connection.connection_lost(None)
    caddys.release.set()
    await eventually(lambda: not relaying.tasks.running, "they have answered")
    assert not relaying.opened


async def test_a_flood_of_challenges_asks_few_at_a_time(caddys: Caddys, relaying: Relaying) -> None:
    caddys.answers = [None, None]
    for _ in range(MAX_ASKED // 2):
        await relaying.ask(CHALLENGE)
        relaying.connect()
    assert not relaying.opened
    await relaying.ask(CHALLENGE)
    assert len(relaying.opened) == 1, "it goes on at once"
    caddys.release.set()
    await eventually(lambda: not relaying.relay.asked, "the members have answered")
    await relaying.hear()
    assert len(relaying.opened) == MAX_ASKED // 2 + 1, "the others go on"
