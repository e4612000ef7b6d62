"""Tests of upstreams, timeouts and routes of services, under real requests on one stack."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.backends import UnresponsivePort
from tests.support.client import Response
from tests.support.inprocess_backend import InProcessBackend
from tests.support.old_backend import OldBackend
from tests.support.recording_backend import RecordingBackend
from tests.support.stack import Authority, Service, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("services"),
]

OUTLIERS = {"consecutive_failures": 1, "consecutive_5xx": 2, "base_ejection_time": "1s"}


def balanced(
    host: str, backends: list[InProcessBackend], weights: list[int] | None = None, **options: Any
) -> Service:
    upstreams = [
        {"address": f"127.0.0.1:{backend.port}", "weight": weight}
        for backend, weight in zip(backends, weights or [100] * len(backends), strict=True)
    ]
    return service(f"{host}.localhost", 1, upstreams=upstreams, load_balancing=options)


def route(
    kind: str | None = None, match: dict[str, Any] | None = None, **config: Any
) -> dict[str, Any]:
    return {"match": match or {}, "handle": [{"type": kind, "config": config}] if kind else []}


class Scenario:
    """The stack and the backends of each service."""

    def __init__(self) -> None:
        self.backends = {
            name: [InProcessBackend(f"b{n}") for n in range(count)]
            for name, count in {
                "turns": 3, "hashed": 4, "first": 2, "two": 3, "reserve": 2, "slow": 2, "one": 1, "odd": 1, "stormy": 3
            }.items()
        }  # fmt: skip
        self.old = OldBackend()
        self.sockets = RecordingBackend("sockets")
        self.clogged = UnresponsivePort()
        self.stack: Stack

    def services(self) -> list[Service]:
        of = self.backends
        odd, plain = of["odd"][0].port, of["one"][0].port
        socket = self.sockets.port
        return [
            balanced("turns", of["turns"]),
            balanced("hashed", of["hashed"], policy="ip_hash", outlier_detection=OUTLIERS),
            balanced("first", of["first"], policy="first", outlier_detection=OUTLIERS),
            balanced("two", of["two"], policy="random_two"),
            balanced("reserve", of["reserve"], [100, 0], outlier_detection=OUTLIERS),
            balanced("slow", of["slow"], slow_start="60s", outlier_detection=OUTLIERS),
            balanced("one", of["one"], max_connections=1, queue=30, queue_timeout="20s"),
            service(
                "stormy.localhost",
                1,
                upstreams=[
                    {"address": f"127.0.0.1:{each.port}", "max_connections": 2}
                    for each in of["stormy"]
                ],
                load_balancing={
                    "policy": "least_conn",
                    "session_affinity": True,
                    "max_connections": 5,
                    "queue": 20,
                    "queue_timeout": "1s",
                    "outlier_detection": {"consecutive_failures": 0, "consecutive_5xx": 0},
                },
            ),
            service("old.localhost", self.old.port),
            service("quiet.localhost", socket, websocket_idle_timeout="1s"),
            service("brief.localhost", socket, websocket_max_duration="2s"),
            service("stalled.localhost", self.old.port, idle_timeout="1s"),
            service("clogged.localhost", self.clogged.port, connect_timeout="1s"),
            service(
                "routed.localhost",
                odd,
                routes=[
                    route("respond", {"method": ["PUT", "DELETE"]}, body="by method"),
                    route("respond", {"headers": {"X-Canary": ["yes", "always"]}}, body="by field"),
                    route("respond", {"query": {"v": "2*"}}, body="by query"),
                    route(
                        "respond",
                        {"path": "/all/*", "method": "POST", "query": {"a": "1"}},
                        body="all at once",
                    ),
                    route(None, {"path": "/*"}),
                ],
            ),
            service(
                "keyed.localhost",
                plain,
                routes=[route("rate_limit", rate="2/hour", key="header:X-Key")],
            ),
            service(
                "shared.localhost",
                plain,
                routes=[route("rate_limit", rate="2/hour", key="service")],
            ),
            service("burst.localhost", plain, routes=[route("rate_limit", rate="1/hour", burst=3)]),
        ]

    async def get(self, host: str, target: str = "/", *fields: tuple[str, str]) -> Response:
        return await self.stack.api.get(f"{host}.localhost", target, *fields)

    async def names(self, host: str, count: int) -> list[str]:
        async with await self.stack.api.open(f"{host}.localhost") as client:
            return [(await client.get("/")).body.decode() for _ in range(count)]


@pytest.fixture(scope="module")
async def scenario(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Scenario]:
    scenario, folder = Scenario(), tmp_path_factory.mktemp("services")
    every = [backend for backends in scenario.backends.values() for backend in backends]
    backends: list[InProcessBackend | OldBackend | RecordingBackend] = [
        *every,
        scenario.old,
        scenario.sockets,
    ]
    for backend in backends:
        await backend.start()
    guarded = [service("guarded.localhost", scenario.backends["odd"][0].port)]
    stack = Stack(
        folder,
        authority,
        agents={"plain": scenario.services(), "global": guarded},
        with_caddy=False,
    )
    stack.agents["global"].set_up(
        global_middleware=[
            {"type": "ip_deny", "config": {"denied_ips": ["192.0.2.66"]}},
            {"type": "headers", "config": {"response": {"set": {"X-Frame-Options": "DENY"}}}},
        ]
    )
    async with stack:
        scenario.stack = stack
        yield scenario
    for backend in backends:
        await backend.stop()
    scenario.clogged.close()


# Balancing


async def test_round_robin(scenario: Scenario) -> None:
    names = await scenario.names("turns", 9)
    assert names == names[:3] * 3
    assert sorted(names[:3]) == ["b0", "b1", "b2"]


async def test_ip_hash_goes_by_the_client_and_moves_only_who_must(scenario: Scenario) -> None:
    clients = [f"198.51.100.{n}" for n in range(40)] + [f"2001:db8::{n:x}" for n in range(20)]

    async def homes() -> dict[str, str]:
        answers = {
            client: await scenario.get("hashed", "/", ("X-Real-IP", client)) for client in clients
        }
        assert {answer.status for answer in answers.values()} == {200}
        return {client: answer.body.decode() for client, answer in answers.items()}

    before = await homes()
    assert await homes() == before
    assert min(Counter(before.values()).values()) >= 4, "each of four has some of sixty"
    await scenario.backends["hashed"][0].stop()
    after = await homes()
    assert {client for client in clients if after[client] != before[client]} == {
        client for client in clients if before[client] == "b0"
    }
    await scenario.backends["hashed"][0].start()

    async def as_before() -> bool:
        return await homes() == before

    await eventually(as_before, "everyone is back home", interval=0.3)


async def test_first_is_failover_and_back(scenario: Scenario) -> None:
    assert set(await scenario.names("first", 5)) == {"b0"}
    await scenario.backends["first"][0].stop()
    assert set(await scenario.names("first", 5)) == {"b1"}
    await scenario.backends["first"][0].start()

    async def back() -> bool:
        return await scenario.names("first", 1) == ["b0"]

    await eventually(back, "the first one is first again", interval=0.2)


async def test_random_two_prefers_the_less_busy_one(scenario: Scenario) -> None:
    scenario.backends["two"][0].delay = 0.4
    await asyncio.gather(*(scenario.names("two", 15) for _ in range(6)))
    slow, *others = (backend.requests for backend in scenario.backends["two"])
    assert 0 < slow < min(others)


async def test_weight_0_is_a_reserve(scenario: Scenario) -> None:
    assert set(await scenario.names("reserve", 10)) == {"b0"}
    await scenario.backends["reserve"][0].stop()
    assert set(await scenario.names("reserve", 10)) == {"b1"}


async def test_who_comes_back_starts_slowly(scenario: Scenario) -> None:
    ill = scenario.backends["slow"][0]
    ill.status = 500
    since = scenario.stack.agents["plain"].process.position()
    await scenario.names("slow", 6)
    await scenario.stack.agents["plain"].process.wait_line(
        "upstream health changed.*after=ejected", since=since
    )
    ill.status = 200
    await scenario.stack.agents["plain"].process.wait_line(
        "upstream health changed.*after=healthy", since=since
    )
    share: Counter[str] = Counter()
    async with asyncio.timeout(30):
        while not share["b0"]:
            # On a machine that is busy it may be slow to answer, and out once more before it is
            # back.
            share.update(await scenario.names("slow", 60))
    assert share["b0"] <= share.total() / 4, "a tenth of a share at first"


async def test_requests_that_are_given_up_leave_no_trace(scenario: Scenario) -> None:
    """Thirty clients go away, one during its answer, the others queued; then the place is free."""
    (backend,) = scenario.backends["one"]
    backend.delay = 3600
    async with contextlib.AsyncExitStack() as clients:
        for _ in range(30):
            client = await clients.enter_async_context(
                await scenario.stack.api.open("one.localhost")
            )
            await client.send_head("GET", "/")
        await eventually(lambda: backend.active == 1, "one is answered")
    backend.delay = 0
    await scenario.get("one")
    assert await asyncio.wait_for(scenario.names("one", 5), 5) == ["b0"] * 5
    assert backend.most_active == 2, (
        "one at a time, and the first one, which knows nothing of its client's end"
    )


async def test_storm_leaves_every_place_free(scenario: Scenario) -> None:
    """Clients leave at any time, backends close and come back; then five places are free."""
    rng, backends = random.Random(4), scenario.backends["stormy"]
    statuses: Counter[int] = Counter()

    async def client() -> None:
        for _ in range(40):
            async with await scenario.stack.api.open("stormy.localhost", patience=20) as client:
                method = rng.choice(["GET", "POST"])
                asked = asyncio.create_task(
                    client.request(method, "/", (), b"body" if method == "POST" else b"")
                )
                done, _ = await asyncio.wait(
                    [asked], timeout=rng.choice([0, 0.002, 0.01, 0.03, 20])
                )
                if done:
                    statuses[asked.result().status] += 1
                else:
                    asked.cancel()

    async def weather() -> None:
        while True:
            backend = rng.choice(backends)
            backend.delay, backend.close_after = (
                rng.choice([0, 0.005, 0.05]),
                rng.choice([None, 1, 3]),
            )
            if rng.random() < 0.3:
                await backend.stop()
                await asyncio.sleep(0.01)
                await backend.start()
            await asyncio.sleep(0.02)

    storm = asyncio.create_task(weather())
    await asyncio.gather(*(client() for _ in range(20)))
    storm.cancel()
    assert set(statuses) <= {200, 502, 503}
    assert statuses[200] > 100, statuses
    for backend in backends:
        await backend.stop()
        await backend.start()
        backend.delay, backend.close_after = 0.0, None
    await eventually(
        lambda: not any(backend.active for backend in backends), "the backends are idle"
    )
    for backend in backends:
        backend.delay = 1.0
    calm = [asyncio.create_task(scenario.get("stormy")) for _ in range(5)]
    await eventually(
        lambda: sum(backend.active for backend in backends) == 5, "five are served at once", 5
    )
    assert [(await each).status for each in calm] == [200] * 5


# Old backends


@pytest.mark.parametrize("kind", ["until-close", "length", "keep-alive"])
async def test_http_1_0(scenario: Scenario, kind: str) -> None:
    async with await scenario.stack.api.open("old.localhost") as client:
        for method in ("GET", "POST", "GET"):
            answer = await client.request(
                method, f"/{kind}", (), b"hello" if method == "POST" else b""
            )
            assert (answer.status, answer.body) == (200, f"{method} {kind}".encode() * 100)
        assert (await client.request("HEAD", f"/{kind}")).status == 200
        assert (await client.get(f"/{kind}")).status == 200


# Time


async def test_websocket_that_is_silent_for_too_long(scenario: Scenario) -> None:
    async with scenario.stack.api.websocket("quiet.localhost") as socket:
        for _ in range(6):
            await socket.send("still here")
            assert await socket.recv() == "still here"
            await asyncio.sleep(0.4)
        began = time.monotonic()
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert 0.5 < time.monotonic() - began < 4


async def test_websocket_that_lasts_for_too_long(scenario: Scenario) -> None:
    began = time.monotonic()
    async with scenario.stack.api.websocket("brief.localhost") as socket:
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(10):
                while True:
                    await socket.send("talk")
                    await socket.recv()
                    await asyncio.sleep(0.05)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert 1.9 < time.monotonic() - began < 5


async def test_answer_that_stops_in_the_middle(scenario: Scenario) -> None:
    began = time.monotonic()
    async with await scenario.stack.api.open("stalled.localhost") as client:
        await client.send_head("GET", "/stall")
        assert (await client.read_head()).status == 200
        assert await client.read(4) == b"half"
        await client.wait_end()
    assert 0.9 < time.monotonic() - began < 5


async def test_backend_that_does_not_accept(scenario: Scenario) -> None:
    began = time.monotonic()
    answer = await scenario.get("clogged")
    assert (answer.status, answer.error_code) == (504, "upstream_timeout")
    assert 0.9 < time.monotonic() - began < 4


# Routes


@pytest.mark.parametrize(
    ("method", "target", "fields", "said"),
    [
        ("PUT", "/", (), b"by method"),
        ("put", "/", (), b"by method"),
        ("GET", "/", (("x-canary", "always"),), b"by field"),
        ("GET", "/", (("X_Canary", "yes"),), b"by field"),
        ("GET", "/", (("X-Canary", "no"), ("X-Canary", "yes")), b"by field"),
        ("GET", "/", (("X-Canary", "no"),), b"b0"),
        ("GET", "/?v=2.1", (), b"by query"),
        ("GET", "/?x=1&%76=2", (), b"by query"),
        ("GET", "/?v=1", (), b"b0"),
        ("POST", "/all/x?a=1", (), b"all at once"),
        ("POST", "/all", (), b"b0"),
        ("GET", "/all/x?a=1", (), b"b0"),
    ],
)
async def test_routes(
    scenario: Scenario, method: str, target: str, fields: tuple[tuple[str, str], ...], said: bytes
) -> None:
    answer = await scenario.stack.api.request("routed.localhost", method, target, fields)
    assert (answer.status, answer.body) == (200, said)


async def test_rate_limits_by_other_keys(scenario: Scenario) -> None:
    async def statuses(host: str, *fields: tuple[str, str]) -> list[int]:
        return [(await scenario.get(host, "/", *fields)).status for _ in range(3)]

    for key in ("one", "two"):
        assert await statuses("keyed", ("X-Key", key)) == [200, 200, 429]
    assert await statuses("keyed", ("X_Key", "one")) == [429] * 3
    assert await statuses("shared", ("X-Real-IP", "192.0.2.1")) == [200, 200, 429]
    assert await statuses("shared", ("X-Real-IP", "192.0.2.2")) == [429] * 3
    assert await statuses("burst", ("X-Real-IP", "2001:db8:1:1::1")) == [200] * 3
    assert await statuses("burst", ("X-Real-IP", "2001:db8:1:1::2")) == [429] * 3, (
        "the /64 is one client"
    )


async def test_global_middleware(scenario: Scenario) -> None:
    answer = await scenario.get("guarded")
    assert (answer.status, answer.get("x-frame-options")) == (200, "DENY")
    denied = await scenario.get("guarded", "/", ("X-Real-IP", "::ffff:192.0.2.66"))
    assert (denied.status, denied.error_code) == (403, "ip_refused")
