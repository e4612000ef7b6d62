"""Tests of several upstreams through the chain: balancing, health, retries."""

import asyncio
import contextlib
import itertools
import re
import signal
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.backends import UnresponsivePort
from tests.support.client import Response
from tests.support.commands import Commands
from tests.support.inprocess_backend import InProcessBackend
from tests.support.processes import PRODUCT, Process
from tests.support.stack import Authority, Service, Stack, service
from tests.support.waiting import eventually
from zerotrust.model.status import AgentStatus
from zerotrust.net.http_client import MAX_DIALS

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("upstreams"),
]


_numbers = itertools.count()


class Scenario:
    """One agent; each test publishes its service and its backends."""

    def __init__(self, stack: Stack, folder: Path, authority: Authority) -> None:
        self.stack = stack
        self.folder = folder
        self.authority = authority
        self.agent = stack.agents["balanced"]
        self._backends: list[InProcessBackend] = []

    async def backends(self, count: int) -> list[InProcessBackend]:
        made = [await InProcessBackend(f"b{n}").start() for n in range(count)]
        self._backends += made
        return made

    async def backend(self, small: InProcessBackend) -> InProcessBackend:
        self._backends.append(await small.start())
        return small

    async def status(self) -> AgentStatus:
        """Return the output of `0trust agent status`."""
        log = self.folder / "status.log"
        log.unlink(missing_ok=True)
        command: list[str | Path] = [
            PRODUCT,
            "agent",
            "status",
            "--config",
            self.agent.path,
            "--json",
        ]
        async with Process("status", command, log=log) as asked:
            assert await asked.wait_exit() == 0, asked.text()
            return AgentStatus.model_validate_json(asked.text())

    async def knows(self, host: str, port: int, problem: str) -> bool:
        """Return True if the server knows that of two upstreams this one has this problem."""
        command = Commands(self.stack.folder / "state" / "admin.sock")
        found = (await command("services", "list", "--json")).json()["services"]
        (upstreams,) = [one["upstreams"] for one in found if one["host"] == host]
        return (
            upstreams is not None
            and (upstreams["healthy"], upstreams["total"]) == (1, 2)
            and [one["address"] for one in upstreams["unhealthy"]] == [f"127.0.0.1:{port}"]
            and problem in upstreams["unhealthy"][0]["reason"]
        )

    async def states(self, service_id: str) -> list[str]:
        """Return the states of a service's upstreams, as `0trust agent status` shows them."""
        status = await self.status()
        assert {session.server for session in status.sessions} == {
            self.agent.config["server"]["address"]
        }
        [upstreams] = [one.upstreams for one in status.services if service_id in one.hosts]
        return [upstream.state for upstream in upstreams]

    def add(self, upstreams: list[Service], **keys: object) -> str:
        """Publish one more service, before the next one; return its host name."""
        host = f"s{next(_numbers)}.localhost"
        self.agent.set_services(
            [*self.agent.services, service(host, 1, **{"upstreams": upstreams, **keys})]
        )
        return host

    async def publish(
        self,
        backends: list[InProcessBackend],
        upstreams: list[Service] | None = None,
        **keys: object,
    ) -> str:
        """Publish a service with these backends; wait until it answers."""
        addresses = [f"unix:{b.path}" if b.path else f"127.0.0.1:{b.port}" for b in backends]
        more = upstreams or [{} for _ in backends]
        host = self.add(
            [{"address": address, **each} for address, each in zip(addresses, more, strict=True)],
            **keys,
        )
        await self.stack.wait_published(host, process=self.agent.process)
        for backend in backends:
            backend.heads.clear()
            backend.bodies.clear()
        return host

    async def get(self, host: str, *fields: tuple[str, str]) -> Response:
        return await self.stack.api.get(host, "/", *fields)

    async def names(self, host: str, count: int) -> Counter[str]:
        async with await self.stack.api.open(host) as client:
            return Counter([(await client.get("/")).body.decode() for _ in range(count)])

    async def close(self) -> None:
        for backend in self._backends:
            await backend.stop()


@pytest.fixture(scope="module")
async def shared(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("upstreams")
    async with Stack(
        folder, authority, agents={"balanced": [service("first.localhost", 1)]}, with_caddy=False
    ) as stack:
        yield stack


@pytest.fixture
async def scenario(shared: Stack, tmp_path: Path, authority: Authority) -> AsyncIterator[Scenario]:
    scenario = Scenario(shared, tmp_path, authority)
    scenario.agent.set_services([service("first.localhost", 1)])
    yield scenario
    await scenario.close()


@pytest.fixture
def clogged() -> Iterator[UnresponsivePort]:
    clogged = UnresponsivePort()
    yield clogged
    clogged.close()


# Balancing


async def test_weights_hold(scenario: Scenario) -> None:
    backends = await scenario.backends(2)
    host = await scenario.publish(
        backends, [{"weight": 3}, {"weight": 1}], load_balancing={"policy": "weighted_round_robin"}
    )
    assert await scenario.names(host, 100) == {"b0": 75, "b1": 25}


async def test_the_less_busy_one_gets_more(scenario: Scenario) -> None:
    slow, fast = backends = await scenario.backends(2)
    slow.delay, fast.delay = 0.5, 0.01
    host = await scenario.publish(backends, load_balancing={"policy": "least_conn"})

    async def client() -> None:
        await scenario.names(host, 10)

    await asyncio.gather(*(client() for _ in range(8)))
    assert fast.requests > 2 * slow.requests


async def test_clients_stay_by_cookie_and_move_when_they_must(scenario: Scenario) -> None:
    backends = await scenario.backends(3)
    host = await scenario.publish(backends, load_balancing={"session_affinity": True})
    first = await scenario.get(host)
    cookie = ("Cookie", (first.get("set-cookie") or "").partition(";")[0])
    for _ in range(6):
        again = await scenario.get(host, cookie)
        assert (again.body, again.get("set-cookie")) == (first.body, None)
    home = next(backend for backend in backends if backend.name.encode() == first.body)
    assert not any(b"0trust_affinity" in head for head in home.heads)
    await home.stop()
    moved = await scenario.get(host, cookie)
    assert moved.status == 200
    assert moved.body != first.body
    assert moved.get("set-cookie")
    forged = ("Cookie", cookie[1][:-2] + "xx")
    assert (await scenario.get(host, forged)).get("set-cookie")


# Failures


async def test_an_answer_that_its_backend_breaks_off_ends(scenario: Scenario) -> None:
    """An answer without a length is reset, and both are there before the agent reads."""
    asked: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /broken "):
            asked.set_result(writer)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, agent = "broken.localhost", scenario.agent.process
        scenario.agent.set_services(
            [*scenario.agent.services, service(host, server.sockets[0].getsockname()[1])]
        )
        await scenario.stack.wait_published(host, process=agent)
        async with await scenario.stack.api.open(host) as client:
            await client.send_head("GET", "/broken")
            writer = await asked
            agent.send_signal(signal.SIGSTOP)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nbegun")
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await writer.wait_closed()
            agent.send_signal(signal.SIGCONT)
            async with asyncio.timeout(10):
                with pytest.raises((EOFError, ConnectionResetError)):
                    await client.read_response()


async def test_nobody_notices_that_an_upstream_dies(scenario: Scenario) -> None:
    backends = await scenario.backends(3)
    for backend in backends:
        backend.delay = 0.005
    host = await scenario.publish(backends)
    failed: list[Response] = []
    done = asyncio.Event()

    async def client() -> None:
        async with await scenario.stack.api.open(host) as client:
            while not done.is_set():
                response = await client.get("/")
                if response.status != 200:
                    failed.append(response)

    clients = [asyncio.create_task(client()) for _ in range(8)]
    await eventually(
        lambda: all(backend.requests > 50 for backend in backends), "all backends are busy"
    )
    await backends[0].stop()
    before = sum(backend.requests for backend in backends)
    await eventually(
        lambda: sum(backend.requests for backend in backends) > before + 200, "the others go on"
    )
    done.set()
    await asyncio.gather(*clients)
    assert not failed


async def test_who_fails_is_left_out_and_comes_back(scenario: Scenario) -> None:
    ill, _ = backends = await scenario.backends(2)
    ill.status = 500
    since = scenario.agent.process.position()
    host = await scenario.publish(
        backends,
        load_balancing={"outlier_detection": {"consecutive_5xx": 3, "base_ejection_time": "5s"}},
    )
    await scenario.names(host, 8)
    assert await scenario.names(host, 6) == {"b1": 6}
    await scenario.agent.process.wait_line(
        f"upstream health changed.*after=ejected.*service={host} ", since=since
    )
    assert await scenario.states(host) == ["ejected", "healthy"]
    ill.status = 200
    await scenario.agent.process.wait_line(
        f"upstream health changed.*after=healthy.*service={host} ", since=since
    )
    assert await scenario.names(host, 6) == {"b0": 3, "b1": 3}
    assert len(re.findall("upstream health changed", scenario.agent.process.text(since))) == 2


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_checks_change_where_requests_go(scenario: Scenario, kind: str) -> None:
    ill, well = backends = await scenario.backends(2)
    check = {
        "type": kind,
        "interval": "200ms",
        "timeout": "1s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
    }
    since = scenario.agent.process.position()
    host = await scenario.publish(
        backends,
        [{"health_check": check}, {"health_check": check}],
        load_balancing={"health_check_required": True},
    )
    if kind == "http":
        ill.status = 302
    else:
        await ill.stop()
    line = await scenario.agent.process.wait_line(
        f"upstream health changed.*after=unhealthy.*service={host} .*", since=since
    )
    problem = "answered 302" if kind == "http" else "connection refused"
    assert problem in line[0]
    await eventually(
        lambda: scenario.knows(host, ill.port, problem), "the server knows it", interval=0.2
    )
    assert await scenario.names(host, 6) == {"b1": 6}
    await well.stop()
    unhealthy = re.compile(f"after=unhealthy.*service={host} ")
    await eventually(
        lambda: len(unhealthy.findall(scenario.agent.process.text(since))) == 2, "both are down"
    )
    down = await scenario.get(host)
    assert (down.status, down.error_code) == (503, "upstreams_down")
    assert 1 <= int(down.get("retry-after") or 0) <= 60
    ill.status = 200
    if kind == "tcp":
        await ill.start()
    await scenario.agent.process.wait_line(
        f"upstream health changed.*after=healthy.*service={host} ", since=since
    )
    assert await scenario.names(host, 3) == {"b0": 3}


async def test_the_least_bad_one_where_none_is_well(scenario: Scenario) -> None:
    (ill,) = backends = await scenario.backends(1)
    ill.status = 503
    check = {"interval": "200ms", "unhealthy_threshold": 1}
    since = scenario.agent.process.position()
    host = await scenario.publish(backends, [{"health_check": check}])
    await scenario.agent.process.wait_line(
        f"upstream health changed.*after=unhealthy.*service={host} ", since=since
    )
    answer = await scenario.get(host)
    assert (answer.status, answer.body) == (503, b"b0")


# What is never done twice


@pytest.mark.parametrize("answers", [1, 3])
async def test_backend_that_closes_when_it_likes(scenario: Scenario, answers: int) -> None:
    """The keep-alive race: a connection closes after an answer, during the next request.

    The first close may cross a POST, which is lost then, because it cannot be sent twice. So the
    agent sees a first close before the POSTs.
    """
    backends = await scenario.backends(1)
    backends[0].close_after = answers
    host = await scenario.publish(backends)
    for _ in range(answers + 1):
        assert (await scenario.get(host)).status == 200
    lost: list[int] = []

    async def client(number: int) -> None:
        async with await scenario.stack.api.open(host) as client:
            for turn in range(40):
                response = await client.get("/")
                assert response.status == 200
                posted = await client.request("POST", "/", (), b"%d-%d" % (number, turn))
                if posted.status != 200:
                    lost.append(posted.status)

    await asyncio.gather(*(client(number) for number in range(6)))
    bodies = {body: count for body, count in backends[0].bodies.items() if body}
    assert max(bodies.values()) == 1
    assert not lost


async def test_post_that_was_sent_is_not_sent_again(scenario: Scenario) -> None:
    backends = await scenario.backends(2)
    host = await scenario.publish(backends)
    for backend in backends:
        backend.delay = 30
    asked = asyncio.create_task(scenario.stack.api.request(host, "POST", "/", (), b"once"))
    await eventually(lambda: sum(b.bodies[b"once"] for b in backends), "one of them has it")
    for backend in backends:
        if backend.bodies[b"once"]:
            await backend.stop()
    response = await asked
    assert (response.status, response.error_code) == (502, "upstream_failed")
    assert sum(backend.bodies[b"once"] for backend in backends) == 1


# Limits


async def test_requests_wait_for_a_connection_or_are_refused(scenario: Scenario) -> None:
    (backend,) = backends = await scenario.backends(1)
    host = await scenario.publish(
        backends, [{"max_connections": 2}], load_balancing={"queue": 3, "queue_timeout": "20s"}
    )
    backend.delay = 0.5
    answers = await asyncio.gather(*(scenario.get(host) for _ in range(8)))
    assert Counter(answer.status for answer in answers) == {200: 5, 503: 3}
    refused = next(answer for answer in answers if answer.status == 503)
    assert (refused.error_code, refused.get("retry-after")) == ("upstreams_busy", "20")
    assert backend.most_active == 2


class SilentBackend:
    """A backend that accepts connections and never completes a TLS handshake."""

    def __init__(self) -> None:
        self.connections: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "SilentBackend":
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.break_off()
        await eventually(lambda: not self.connections, "all connections are closed")

    def break_off(self) -> None:
        for writer in self.connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        with contextlib.suppress(OSError):
            await reader.read()
        self.connections.discard(writer)
        writer.close()


@contextlib.asynccontextmanager
async def strangers(scenario: Scenario, host: str, count: int) -> AsyncIterator[None]:
    """Send requests inside the block; at its end the clients leave and the agent knows it."""
    asked = b"GET / HTTP/1.1\r\nHost: %b\r\nX-Forwarded-Proto: https\r\n\r\n" % host.encode()
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", scenario.stack.api.port)
        writer.write(asked)
        writers.append(writer)
    try:
        yield
    finally:
        for writer in writers:
            writer.transport.abort()

    async def gone() -> bool:
        return sum(session.streams for session in (await scenario.status()).sessions) == 0

    await eventually(gone, "the agent has heard that they are gone")


async def test_requests_that_are_given_up_keep_the_number_of_connections(
    scenario: Scenario,
) -> None:
    """A stranger goes away during the backend's TLS handshake."""
    async with SilentBackend() as mute:
        limits = {"max_connections": 4, "queue": 0}
        host = scenario.add(
            [{"address": f"https://127.0.0.1:{mute.port}"}],
            load_balancing=limits,
            connect_timeout="60s",
        )
        (other,) = others = await scenario.backends(1)
        beside = await scenario.publish(others)
        async with strangers(scenario, host, 4):
            await eventually(lambda: len(mute.connections) == 4, "each has a connection")
        for _ in range(3):
            refused = await scenario.get(host)
            assert (refused.status, refused.error_code) == (503, "upstreams_busy")
            assert (await scenario.get(beside)).body == other.name.encode()
        assert len(mute.connections) == 4
        mute.break_off()
        await eventually(lambda: not mute.connections, "the dials have failed")
        async with strangers(scenario, host, 4):
            await eventually(lambda: len(mute.connections) == 4, "the places are free again")


async def test_requests_that_are_given_up_leave_descriptors_to_other_services(
    scenario: Scenario, clogged: UnresponsivePort
) -> None:
    """Strangers come and go while the backend accepts nothing; there is no `max_connections`."""
    agent = scenario.agent.process
    host = scenario.add([{"address": f"127.0.0.1:{clogged.port}"}], connect_timeout="60s")
    (other,) = others = await scenario.backends(1)
    beside = await scenario.publish(others)
    before = agent.open_files()
    for _ in range(3):
        async with strangers(scenario, host, 3 * MAX_DIALS):
            await eventually(
                lambda: agent.open_files() >= before + MAX_DIALS, "as many are dialled as may be"
            )
            assert (await scenario.get(beside)).body == other.name.encode()
            assert agent.open_files() <= before + MAX_DIALS + 8, (
                "and the connections of the other service"
            )


async def test_waiting_has_an_end(scenario: Scenario) -> None:
    (backend,) = backends = await scenario.backends(1)
    host = await scenario.publish(
        backends, load_balancing={"max_connections": 1, "queue_timeout": "1s"}
    )
    backend.delay = 5
    first = asyncio.create_task(scenario.get(host))
    await eventually(lambda: backend.active == 1, "the first one has it")
    second = await scenario.get(host)
    assert (second.status, second.error_code) == (503, "upstreams_busy")
    assert (await first).status == 200


async def test_total_time(scenario: Scenario) -> None:
    (backend,) = backends = await scenario.backends(1)
    host = await scenario.publish(backends, total_timeout="1s")
    backend.delay = 10
    answer = await scenario.get(host)
    assert (answer.status, answer.error_code) == (504, "upstream_timeout")


# Kinds of upstreams


async def test_unix_socket(scenario: Scenario) -> None:
    backend = await scenario.backend(
        InProcessBackend("on a socket", path=scenario.folder / "app.sock")
    )
    host = await scenario.publish([backend])
    assert (await scenario.get(host)).body == b"on a socket"


def tls_of(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.root)
    context.load_cert_chain(*authority.server("backend"))
    return context


async def test_https_with_an_authority_of_ones_own(scenario: Scenario, tmp_path: Path) -> None:
    context = tls_of(scenario.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    backend = await scenario.backend(InProcessBackend("secret", tls=context))
    certificate, key = scenario.authority.agent("client")
    known = {"ca_file": str(scenario.authority.root), "min_version": "1.3"}
    host = await scenario.publish(
        [backend],
        protocol="https",
        tls={**known, "client_cert_file": str(certificate), "client_key_file": str(key)},
    )
    assert (await scenario.get(host)).body == b"secret"
    without = await scenario.publish([backend], protocol="https", tls=known)
    assert (await scenario.get(without)).status == 502


async def test_https_that_cannot_be_trusted(scenario: Scenario, tmp_path: Path) -> None:
    backend = await scenario.backend(InProcessBackend("secret", tls=tls_of(scenario.authority)))
    foreign = Authority(tmp_path / "foreign")
    since = scenario.agent.process.position()
    host = await scenario.publish([backend], protocol="https", tls={"ca_file": str(foreign.root)})
    answer = await scenario.get(host)
    assert (answer.status, answer.error_code) == (502, "upstream_unreachable")
    line = await scenario.agent.process.wait_line("request failed.*", since=since)
    assert f"127.0.0.1:{backend.port}" in line[0]
    assert "certificate not trusted" in line[0]
    assert backend.requests == 0
    named = await scenario.publish(
        [backend],
        protocol="https",
        tls={"ca_file": str(scenario.authority.root), "server_name": "other.example"},
    )
    assert (await scenario.get(named)).status == 502
    open_to_all = await scenario.publish(
        [backend], protocol="https", tls={"insecure_skip_verify": True}
    )
    assert (await scenario.get(open_to_all)).status == 200
    await scenario.agent.process.wait_line("TLS verification of backends is disabled", since=since)


async def test_host_and_origin_of_backends_that_check_them(scenario: Scenario) -> None:
    (backend,) = backends = await scenario.backends(1)
    host = await scenario.publish(backends, host_header="upstream", origin="upstream")
    await scenario.stack.api.get(host, "/", ("Origin", f"https://{host}"))
    await scenario.get(host, ("Origin", "https://evil.example"))
    own, foreign = backend.heads
    address = b"127.0.0.1:%d" % backend.port
    assert b"\r\nHost: " + address in own
    assert b"\r\nOrigin: http://" + address + b"\r\n" in own
    assert b"\r\nOrigin: https://evil.example\r\n" in foreign


# Reload


async def test_reload_leaves_alone_what_is_the_same(scenario: Scenario) -> None:
    kept, changed = await scenario.backends(2)
    kept_host = await scenario.publish([kept])
    changed_host = await scenario.publish([changed])
    changed.delay = kept.delay = 1.5
    under_way = [asyncio.create_task(scenario.get(host)) for host in (kept_host, changed_host)]
    await eventually(lambda: kept.active == changed.active == 1, "both are under way")
    services = [dict(each) for each in scenario.agent.services]
    services[-1]["load_balancing"] = {"policy": "least_conn"}
    since = scenario.agent.process.position()
    scenario.agent.set_services(services)
    await scenario.agent.process.wait_line("(?i)reload|changed", since=since)
    assert [(await each).status for each in under_way] == [200, 200]
