"""Connections to backends that serve one request after the other.

A backend closes idle ones while requests are on their way: none may be lost or run twice. A faulty
backend sends bytes behind its answer: no other client may get them.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import cast

import pytest

from tests.conftest import Measured
from tests.support.idle_closer import IdleCloser
from tests.support.stack import Authority, Stack, service
from tests.support.surplus_sender import BODY, SurplusSender
from tests.support.waiting import eventually
from zerotrust.net.http_client import CAREFUL_IDLE

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("keep-alive"),
]

CLIENTS = 32
_hosts = itertools.count()


class Client(asyncio.Protocol):
    """Client with one connection, one request after the other; a third of them are POSTs."""

    def __init__(self, host: str, numbers: "itertools.count[int]", answers: Counter[int]) -> None:
        self._host = host.encode()
        self._numbers = numbers
        self._answers = answers
        self._left = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._left:
            self._done.set_exception(ConnectionError(f"the server closed the connection: {exc}"))

    async def ask(self, count: int, *, safe: bool = False) -> None:
        """Send `count` requests, one after the other; with `safe` only GETs."""
        self._left, self._safe = count, safe
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next()
        await self._done

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(
            head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        ):
            return
        self._buffer = b""
        self._answers[int(head[9:12])] += 1
        self._left -= 1
        if self._left:
            self._next()
        else:
            self._done.set_result(None)

    def _next(self) -> None:
        number = next(self._numbers)
        if number % 3 or self._safe:
            self.transport.write(b"GET /%d HTTP/1.1\r\nHost: %b\r\n\r\n" % (number, self._host))
        else:
            self.transport.write(
                b"POST /%d HTTP/1.1\r\nHost: %b\r\nContent-Length: 4\r\n\r\nonce"
                % (number, self._host)
            )


class ClientGroup:
    """All clients of one service."""

    def __init__(self, stack: Stack, host: str) -> None:
        self._stack = stack
        self._host = host
        self._numbers = itertools.count()
        self.answers: Counter[int] = Counter()

    async def __aenter__(self) -> "ClientGroup":
        loop = asyncio.get_running_loop()
        self._clients = [
            (
                await loop.create_connection(
                    lambda: Client(self._host, self._numbers, self.answers),
                    "127.0.0.1",
                    self._stack.api.port,
                )
            )[1]
            for _ in range(CLIENTS)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.transport.abort()

    async def burst(self, count: int, *, safe: bool = False) -> None:
        """Send `count` requests, spread over all clients."""
        async with asyncio.timeout(20):
            await asyncio.gather(
                *(client.ask(count // CLIENTS, safe=safe) for client in self._clients)
            )


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("keep-alive")
    async with Stack(
        folder, authority, agents={"kept": [service("first.localhost", 1)]}, with_caddy=False
    ) as stack:
        yield stack


@contextlib.asynccontextmanager
async def serving(
    stack: Stack, *idle_timeouts: float
) -> AsyncIterator[list[tuple[IdleCloser, ClientGroup]]]:
    """New backends of unknown behaviour, and the clients of each."""
    backends = [await IdleCloser(timeout).start() for timeout in idle_timeouts]
    hosts = [f"s{next(_hosts)}.localhost" for _ in backends]
    services = [service(host, backend.port) for host, backend in zip(hosts, backends, strict=True)]
    stack.agents["kept"].set_services(services)
    await stack.wait_published(hosts[-1])
    async with contextlib.AsyncExitStack() as crowds:
        for backend in backends:
            crowds.callback(backend.stop)
        yield [
            (backend, await crowds.enter_async_context(ClientGroup(stack, host)))
            for host, backend in zip(hosts, backends, strict=True)
        ]


def assert_once(backend: IdleCloser, clients: ClientGroup, count: int) -> None:
    """Each request was answered, and no POST ran twice."""
    assert clients.answers == {200: count}
    assert max(backend.posts.values()) == 1
    assert len(backend.posts) + len([number for number in backend.gets if number]) == count


async def test_twenty_thousand_requests(stack: Stack, measured: Measured) -> None:
    """The backend closes after five seconds, as Node and Apache do; bursts come around then."""
    begun_at = time.monotonic()
    async with serving(stack, 5.0) as [(backend, clients)]:
        for pause in (3.99, 5.0, 0):
            await clients.burst(6688)
            await asyncio.sleep(pause)
        assert_once(backend, clients, 3 * 6688)
    seconds = time.monotonic() - begun_at
    measured(
        "20,064 requests, bursts 4 and 5 s apart, backend closes after 5 s: none lost,"
        f" {seconds:.0f} s"
    )


async def test_bursts_that_meet_the_close(stack: Stack, measured: Measured) -> None:
    """Again and again the backend closes all idle connections while the next requests arrive."""
    async with serving(stack, 0.05) as [(backend, clients)]:

        def close_idle() -> None:
            # The backend was busy: requests that have arrived meanwhile are behind its close. The
            # agent sees a close that arrives before it writes, so a backend that is never busy
            # hardly meets a request.
            time.sleep(0.001)
            backend.close_idle()

        await clients.burst(CLIENTS, safe=True)
        await eventually(
            lambda: backend.closed_idle >= 1, "the backend is seen to close idle connections"
        )
        turn = 0
        while turn < 100 or (not backend.crossed and turn < 400):
            asyncio.get_running_loop().call_later(turn % 40 / 2000, close_idle)
            await clients.burst(2 * CLIENTS)
            await asyncio.sleep(0.05 + (turn % 7 - 3) / 2000)
            turn += 1
        assert_once(backend, clients, (1 + 2 * turn) * CLIENTS)
        assert backend.crossed > 0, "the race was never run"
        measured(
            f"keep-alive race: {backend.crossed} of {(1 + 2 * turn) * CLIENTS} requests crossed a"
            " close, none lost"
        )


async def test_first_close_of_a_backend(stack: Stack, measured: Measured) -> None:
    """The backend is unknown: requests that cannot be repeated must be safe from the start."""
    async with serving(stack, *[30.0] * 20) as served:
        for _, clients in served:
            await clients.burst(2 * CLIENTS, safe=True)
        await asyncio.sleep(CAREFUL_IDLE + 0.1)
        for number, (backend, clients) in enumerate(served):
            asyncio.get_running_loop().call_later(number / 1000, backend.close_idle, CAREFUL_IDLE)
            await clients.burst(2 * CLIENTS)
            assert_once(backend, clients, 4 * CLIENTS)
        measured(
            f"keep-alive race at the first close: {sum(each.crossed for each, _ in served)}"
            " crossed, none lost"
        )


# A backend that sends more than it was asked for

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE")
STATUSES = (200, 204, 206, 304, 404, 500)
FRAMINGS = ("none", "zero", "length", "chunked")


def answers() -> list[tuple[str, int, str, bool]]:
    """Return method, status and framing of answers that keep the connection.

    The last item is True if the answer delimits itself, so that nothing can follow.
    """
    found = []
    for method, status, framing in itertools.product(METHODS, STATUSES, FRAMINGS):
        bodiless = method == "HEAD" or status in (204, 304)
        if bodiless or framing != "none":
            ended = (
                not bodiless or framing == "zero" or (framing == "none" and status in (204, 304))
            )
            found.append((method, status, framing, ended))
    return found


@contextlib.asynccontextmanager
async def sending_surplus(stack: Stack) -> AsyncIterator[str]:
    """Publish a service with a faulty backend; yield its host name."""
    backend = await SurplusSender().start()
    host = f"s{next(_hosts)}.localhost"
    try:
        stack.agents["kept"].set_services([service(host, backend.port)])
        await stack.wait_published(host)
        yield host
    finally:
        backend.stop()


@pytest.mark.parametrize("moment", ["segment", "turn", "request", "50"])
async def test_no_client_gets_bytes_of_the_answer_to_another(stack: Stack, moment: str) -> None:
    """Surplus bytes of one answer never reach another client.

    Bytes that come with the next request are its answer by HTTP/1.1 if the first answer delimited
    itself; the test leaves these cases out.
    """
    async with (
        sending_surplus(stack) as host,
        await stack.api.open(host) as first,
        await stack.api.open(host) as second,
    ):
        for number, (method, status, framing, ended) in enumerate(answers()):
            if ended and moment in ("request", "50"):
                continue
            case = f"{method} {status} {framing}"
            one = await first.request(method, f"/first/{moment}/{status}/{framing}")
            assert one.status == status, case
            other = await second.get(f"/second/{number}")
            assert (other.status, other.body) == (200, b"%d" % number), case


async def test_clients_side_by_side_get_their_own_answers(stack: Stack) -> None:
    """The bytes come after any time, also while the next request is being written."""
    rest = itertools.cycle(
        (method, status, framing, moment)
        for (method, status, framing, ended), moment in itertools.product(
            answers(), ("0", "1", "2", "3")
        )
        if not ended
    )
    numbers = itertools.count()
    async with sending_surplus(stack) as host:

        async def provoke() -> None:
            async with await stack.api.open(host) as client:
                for method, status, framing, moment in itertools.islice(rest, 100):
                    assert (
                        await client.request(method, f"/first/{moment}/{status}/{framing}")
                    ).status == status

        async def ask() -> None:
            async with await stack.api.open(host) as client:
                for number in itertools.islice(numbers, 100):
                    response = await client.get(f"/second/{number}")
                    assert (response.status, response.body) == (200, b"%d" % number)
                    assert BODY not in response.body

        await asyncio.gather(*(provoke() for _ in range(4)), *(ask() for _ in range(8)))
