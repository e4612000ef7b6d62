"""Tests of access that is taken back on two servers, of which one gets the command.

Everyone whose access ends loses WebSockets, downloads and event streams within a second, at the
server that was told and at the other one. The WebSockets of all others lose no message.

`CHAOS=full` (make chaos) holds the times; else each has ten seconds.
"""

import asyncio
import contextlib
import json
import math
import secrets
import signal
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.component.test_chaos import FULL
from tests.conftest import Measured
from tests.support.client import Client
from tests.support.commands import Commands
from tests.support.echo_socket import EchoSocket
from tests.support.oidc_provider import CLIENT_ID, SECRET, OidcProviderServer
from tests.support.people import Store
from tests.support.shared_servers import (
    AUTH,
    HTTPS,
    Fields,
    SharedServers,
    cookie,
    shared_servers,
)
from tests.support.stack import Authority
from tests.support.waiting import eventually
from zerotrust.access.hand_over import Arrival, challenge_of, new_way, verifier_of
from zerotrust.access.secret_format import new_cookie
from zerotrust.accounts import hand_overs
from zerotrust.server.access.people import ProviderAccount
from zerotrust.server.access.sign_ins import IssuedCookie

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("access_cuts"),
    pytest.mark.slow,
]

CHAT, FILES, TEAM, RULE, PARTY, OPEN = (
    f"{name}.localhost" for name in ("chat", "files", "team", "rule", "party", "open")
)
EACH = 40 if FULL else 20
"""WebSockets of each case at each server."""
BLIND = 10.0
LIFETIME = 10.0
AT_ONCE = 10
"""Codes that are made at once; they are good for a minute."""
STREAMS = ("/sse?n=9999&every=0.2", "/slow/9999?every=0.2")
FAMILY = {"hosts": [CHAT, FILES], "allow": [{"group": "family"}], "links": True}


def section(issuer: str, folder: Path) -> dict[str, Any]:
    """The section `access` of both servers."""
    secret = folder / "client.secret"
    secret.write_text(SECRET)
    provider = {"issuer": issuer, "client_id": CLIENT_ID, "client_secret_file": str(secret)}
    others = [{"provider": "corp"}, {"machine": "frame"}, {"app": "phone"}]
    return {
        "auth_host": AUTH,
        "sessions": {"blind": f"{BLIND:g}s"},
        "identity_providers": {"corp": provider},
        "rules": [
            {**FAMILY, "allow": [{"group": "family"}, *others]},
            {"hosts": [TEAM], "allow": [{"group": "team"}]},
            {"hosts": [RULE], "allow": [{"group": "family"}]},
            {"hosts": [PARTY], "allow": [{"pin": True}]},
            {"hosts": [OPEN], "allow": "anyone"},
        ],
    }


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[OidcProviderServer]:
    async with OidcProviderServer() as provider:
        yield provider


@pytest.fixture(scope="module")
async def servers(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, provider: OidcProviderServer
) -> AsyncIterator[SharedServers]:
    folder = tmp_path_factory.mktemp("access_cuts")
    access = section(provider.issuer, folder)
    chat, files = (CHAT, TEAM, RULE, PARTY), (FILES, OPEN)
    async with shared_servers(folder, authority, access=access, chat=chat, files=files) as made:
        yield made


async def sign_in(store: Store, name: str, group: str = "family") -> IssuedCookie:
    """Sign a new user in."""
    return await store.sign_in(await store.passkey(name, group))


# ---- the cuts


@dataclass
class Case:
    """A credential, the way in which it ends, and what runs under it."""

    name: str
    reason: str
    cut: Callable[[], Awaitable[object]]
    passes: list[dict[str, Fields]]
    ends_at: float = 0.0
    """Time at which it ends without a command."""
    sockets: tuple[list[EchoSocket], list[EchoSocket]] = field(default_factory=lambda: ([], []))
    streams: list[asyncio.Task[float]] = field(default_factory=list)

    @property
    def every(self) -> list[EchoSocket]:
        return [*self.sockets[0], *self.sockets[1]]


async def broken_off(client: Client) -> float:
    """Read the body of a response to its end; return the time at which it was broken off."""
    last = b""
    try:
        with contextlib.suppress(OSError):
            while data := await client.reader.read(65536):
                last = data
    finally:
        client.abort()
    assert not last.endswith(b"0\r\n\r\n"), "it has ended by itself"
    return asyncio.get_running_loop().time()


async def open_case(servers: SharedServers, case: Case) -> None:
    """Open the WebSockets and streams of a case at both servers."""
    for passes in case.passes:
        each = EACH // len(case.passes)
        for number, sockets in enumerate(case.sockets):
            host = next(iter(passes))
            opened = [servers.socket(number, host, passes[host]) for _ in range(each)]
            sockets += await asyncio.gather(*opened)
            for path in STREAMS if FILES in passes else ():
                client = await servers.connect(number, FILES)
                await client.send_head("GET", path, [HTTPS, *passes[FILES]])
                assert (await client.read_head()).status == 200
                case.streams.append(asyncio.create_task(broken_off(client)))


async def talk(sockets: list[EchoSocket]) -> None:
    """Let all WebSockets say something, in turn, about 500 messages a second."""
    while True:
        for number, socket in enumerate(sockets):
            socket.say()
            if number % 25 == 0:
                await asyncio.sleep(0.05)


async def cases_of(servers: SharedServers, provider: OidcProviderServer) -> list[Case]:
    """One case for each reason but the end of a lifetime; half of the commands at each server."""
    store, admin = servers.store, servers.admin
    both = (CHAT, FILES)

    async def of_user(name: str, *hosts: str, group: str = "family") -> dict[str, Fields]:
        return await servers.enter(await sign_in(store, name, group), *(hosts or both))

    one = await of_user("anna")
    twice = await store.passkey("ben", "family")
    two = [await servers.enter(await store.sign_in(twice), *both) for _ in range(2)]
    account = ProviderAccount(provider="corp", subject="1", session="s1")
    machine = await store.tokens.create_machine("frame", hosts=[], lifetime=None, actor="uid 0")
    await sign_in(store, "hans")
    app = await store.tokens.create_app(
        "phone", user="hans", hosts=[], lifetime=None, actor="uid 0"
    )
    link = await store.links.create(
        f"https://{CHAT}/",
        lifetime=3600.0,
        uses=None,
        pin=None,
        methods=[],
        created_by="uid 0",
        actor="uid 0",
    )
    guest = await store.links.use(
        link.url.partition("#")[2], host=CHAT, pin=None, browser=store.browser()
    )
    await store.links.set_pin(PARTY, "123456", actor="uid 0")
    reveller = await store.links.enter_pin(PARTY, "123456", browser=store.browser())
    tokens: list[dict[str, Fields]] = [
        {host: [("X-0Trust-Token", issued.secret)] for host in both} for issued in (machine, app)
    ]

    async def change_rule() -> None:
        for stack in servers.stacks:
            path = stack.folder / "server.yaml"
            config = json.loads(path.read_text())
            config["access"]["rules"][2]["allow"] = [{"group": "admins"}]
            path.write_text(json.dumps(config))
        for stack in servers.stacks:
            stack.server.send_signal(signal.SIGHUP)

    async def provider_logout() -> None:
        body = urlencode({"logout_token": provider.logout_token(sid="s1", sub="1")}).encode()
        form = ("Content-Type", "application/x-www-form-urlencoded")
        answer = await servers.stacks[1].api.request(AUTH, "POST", "/out/corp", [HTTPS, form], body)
        assert answer.status == 200, answer

    out, ended, withdrawn = "signed out", "session ended", "access withdrawn"
    return [
        Case("sign-out", out, lambda: servers.sign_out(0, CHAT, one[CHAT]), [one]),
        Case(
            "sign-out everywhere",
            out,
            lambda: servers.sign_out(1, CHAT, two[0][CHAT], everywhere="1"),
            two,
        ),
        Case(
            "end by administrator",
            ended,
            lambda: admin(0, "/v1/sessions/end", {"user": "carla"}),
            [await of_user("carla")],
        ),
        Case(
            "user disabled",
            withdrawn,
            lambda: admin(1, "/v1/users/disable", {"user": "dora"}),
            [await of_user("dora")],
        ),
        Case(
            "group removed",
            withdrawn,
            lambda: admin(0, "/v1/groups/remove", {"user": "emil", "group": "team"}),
            [await of_user("emil", TEAM, group="team")],
        ),
        Case("rule changed", withdrawn, change_rule, [await of_user("fritz", RULE)]),
        Case(
            "provider's logout",
            out,
            provider_logout,
            [await servers.enter(await store.by_provider(account), *both)],
        ),
        Case(
            "machine's token revoked",
            withdrawn,
            lambda: admin(0, "/v1/machines/revoke", {"name": "frame"}),
            [tokens[0]],
        ),
        Case(
            "app's token revoked",
            withdrawn,
            lambda: admin(1, "/v1/apps/revoke", {"name": "phone"}),
            [tokens[1]],
        ),
        Case(
            "link revoked",
            withdrawn,
            lambda: admin(0, "/v1/links/revoke", {"id": link.id}),
            [{CHAT: cookie(guest)}],
        ),
        Case(
            "PIN changed",
            withdrawn,
            lambda: admin(1, "/v1/pins/set", {"host": PARTY, "pin": "654321"}),
            [{PARTY: cookie(reveller)}],
        ),
    ]


async def lifetime_case(servers: SharedServers) -> Case:
    """A sign-in that ends after LIFETIME, less than a file may say."""
    store = servers.store
    credential_id = await store.passkey("greta", "family")
    usual = store.state.access
    sessions = usual.sessions.model_copy(update={"lifetime": LIFETIME})
    store.state.access = usual.model_copy(update={"sessions": sessions})
    issued = await store.sign_in(credential_id)
    store.state.access = usual
    ends_at = issued.credential.ends_at

    async def until_it_ends() -> None:
        await eventually(
            lambda: time.time() >= ends_at, "the lifetime is over", LIFETIME + 1, 0.005
        )

    passes = [await servers.enter(issued, CHAT, FILES)]
    return Case("end of lifetime", "session ended", until_it_ends, passes, ends_at)


async def cut(case: Case, others: list[EchoSocket]) -> tuple[float, str]:
    """Let the access of a case end; return the p99 of the close events, and a line about it."""
    loop = asyncio.get_running_loop()
    begun_at = loop.time() + (case.ends_at and case.ends_at - time.time())
    await case.cut()
    try:
        async with asyncio.timeout(10):
            streams_ended_at = await asyncio.gather(*case.streams)
    except TimeoutError:
        raise AssertionError(f"{case.name}: a download or an event stream goes on") from None
    await eventually(
        lambda: all(socket.ended_at for socket in case.every), f"{case.name}: WebSockets end", 10
    )
    ends = Counter((socket.code, socket.reason) for socket in case.every)
    assert ends == {(1008, case.reason): 2 * EACH}, case.name
    assert not any(socket.ended_at for socket in others), f"{case.name} cut others"
    delays = [sorted(s.ended_at - begun_at for s in sockets) for sockets in case.sockets]
    late = [each[math.ceil(len(each) * 0.99) - 1] for each in delays]
    at_last = max(streams_ended_at, default=begun_at) - begun_at
    return max(*late, at_last), (
        f"{case.name}: p99 {late[0] * 1000:.0f} ms at server 1, {late[1] * 1000:.0f} ms at server 2"
        + (f"; {len(case.streams)} streams {at_last * 1000:.0f} ms" if case.streams else "")
    )


async def test_each_reason_cuts_its_own_at_both_servers(
    servers: SharedServers, provider: OidcProviderServer, measured: Measured
) -> None:
    zoe = await servers.enter(await sign_in(servers.store, "zoe"), CHAT, FILES)
    bystander = Case("zoe", "", asyncio.Event().wait, [zoe])
    cases = [*await cases_of(servers, provider), bystander]
    everyone: list[EchoSocket] = []
    worst: list[float] = []
    talking: list[asyncio.Task[object]] = []
    try:
        for case in cases:
            await open_case(servers, case)
        cases.insert(0, await lifetime_case(servers))
        await open_case(servers, cases[0])
        everyone += [socket for case in cases for socket in case.every]
        talking.append(asyncio.create_task(talk(everyone)))
        for number, case in enumerate(cases[:-1]):
            others = [socket for other in cases[number + 1 :] for socket in other.every]
            late, line = await cut(case, others)
            worst.append(late)
            measured(line)
            said = [socket.said for socket in others]
            await eventually(
                lambda: all(a.heard >= b for a, b in zip(others, said, strict=True)),  # noqa: B023
                f"{case.name}: the others go on",
            )
        if FULL:  # other tests run beside the short form
            assert statistics.median(worst) < 1
            assert max(worst) < 3
        talking.pop().cancel()
        await eventually(lambda: all(s.is_complete for s in bystander.every), "all have heard all")
        assert not any(stream.done() for stream in bystander.streams)
        assert all(socket.heard_in_order for socket in everyone)
    finally:
        for task in (*talking, *(stream for case in cases for stream in case.streams)):
            task.cancel()
        for socket in everyone:
            socket.abort()
    measured(
        f"{len(everyone)} WebSockets of {len(cases)} on two servers:"
        f" {sum(socket.heard for socket in everyone)} messages, none lost before its cut"
    )


# ---- the second server learns in time


async def handed_over(store: Store, issued: IssuedCookie, count: int) -> tuple[list[str], str]:
    """Hand a sign-in over, often; return the queries of the callbacks, and the cookie for them.

    One transaction costs less than many.
    """
    way = new_way()
    nonces = [secrets.token_urlsafe(16) for _ in range(count)]
    codes = [new_cookie() for _ in nonces]

    def work(session: Session, now: int) -> None:
        for n, code in zip(nonces, codes, strict=True):
            hand_overs.add(
                session,
                int(issued.credential.id),
                code=code,
                host=FILES,
                challenge=challenge_of(verifier_of(way, n, "/")),
                target="/",
                now=now,
                rationed=store.state.rationed,
            )

    await store.state.run(work)
    found = zip(codes, nonces, strict=True)
    return [Arrival(code, n, "/").to_query() for code, n in found], (
        f"__Host-0trust-way={way.decode()}"
    )


async def test_a_pass_is_known_to_the_other_server_at_once(
    servers: SharedServers, measured: Measured
) -> None:
    """Each callback goes to the first server, the request after it to the second."""
    people, each = 20, 50 if FULL else 20
    sign_ins = [await sign_in(servers.store, f"user-{number}") for number in range(people)]
    statuses: Counter[int] = Counter()
    delays: list[float] = []

    async def browse(issued: IssuedCookie) -> None:
        first, second = servers.stacks
        async with await first.api.open(FILES) as one, await second.api.open(FILES) as two:
            for number in range(each):
                if number % AT_ONCE == 0:
                    arrivals, way = await handed_over(servers.store, issued, AT_ONCE)
                arrival = arrivals[number % AT_ONCE]
                back = await one.get(f"/.0trust/in?{arrival}", HTTPS, ("Cookie", way))
                assert back.status == 303, back
                made = next(v for v in back.all("set-cookie") if v.startswith("__Host-0trust="))
                begun_at = time.monotonic()
                answer = await two.get("/bytes/1", HTTPS, ("Cookie", made.partition(";")[0]))
                delays.append(time.monotonic() - begun_at)
                statuses[answer.status] += 1

    await asyncio.gather(*(browse(issued) for issued in sign_ins))
    assert statuses == {200: people * each}
    delays.sort()
    measured(
        f"{len(delays)} requests with a pass that another server had just made: none redirected,"
        f" p50 {delays[len(delays) // 2] * 1000:.0f} ms, p99 {delays[-len(delays) // 100] * 1000:.0f} ms"
    )


# ---- the database away


# ---- how changes come


async def listeners(servers: SharedServers, *, end: bool = False) -> set[int]:
    """Return the processes of PostgreSQL that wait for notifications; end them if asked to."""
    pid = "CASE WHEN pg_terminate_backend(pid) THEN pid END" if end else "pid"
    query = text(f"SELECT {pid} FROM pg_stat_activity WHERE query LIKE 'LISTEN zerotrust_probe%'")
    return set(await servers.store.database.run(lambda session: session.scalars(query).all()))


async def seconds_to_the_other(servers: SharedServers, name: str) -> float:
    """End the sessions of a new user at one server; return how long a WebSocket at the other one
    stays open."""
    passes = await servers.enter(await sign_in(servers.store, name), CHAT)
    socket = await servers.socket(1, CHAT, passes[CHAT])
    begun_at = asyncio.get_running_loop().time()
    await servers.admin(0, "/v1/sessions/end", {"user": name})
    await eventually(lambda: socket.ended_at, "the WebSocket at the other server ends")
    return socket.ended_at - begun_at


async def test_a_change_is_at_the_other_server_at_once(
    servers: SharedServers, measured: Measured
) -> None:
    async def both_listen() -> set[int]:
        found = await listeners(servers)
        return found if len(found) == 2 else set()

    before = await eventually(both_listen, "both servers listen")
    took = [await seconds_to_the_other(servers, f"told-{number}") for number in range(5)]
    # Without notifications they would look every five seconds.
    assert statistics.median(took) < (0.2 if FULL else 2.0), took

    assert await listeners(servers, end=True) == before
    alone = await seconds_to_the_other(servers, "untold")
    assert alone < (1.5 if FULL else 10.0)

    async def both_listen_again() -> bool:
        found = await listeners(servers)
        return len(found) == 2 and not found & before

    await eventually(both_listen_again, "both servers listen again")
    again = [await seconds_to_the_other(servers, f"again-{number}") for number in range(3)]
    assert statistics.median(again) < (0.2 if FULL else 2.0), again
    measured(
        f"a change was at the other server after {statistics.median(took) * 1000:.0f} ms, and"
        f" {alone * 1000:.0f} ms when the connections for notifications had just been cut"
    )


async def command(servers: SharedServers, *words: str) -> tuple[int, str]:
    """Run a command at the first server; return its exit status and what it has written."""
    done = await Commands(servers.stacks[0].folder / "state" / "admin.sock")(*words)
    return done.code, done.out + done.err


async def test_without_the_database_people_go_on_until_the_server_is_blind(
    servers: SharedServers, measured: Measured
) -> None:
    yara = await servers.enter(await sign_in(servers.store, "yara"), FILES, CHAT)

    async def statuses(host: str) -> list[int]:
        fields = yara.get(host, [])
        answers = [await servers.get(number, host, fields, "/bytes/1") for number in range(2)]
        return [answer.status for answer in answers]

    assert await statuses(FILES) == [200, 200]
    sockets = [await servers.socket(number, CHAT, yara[CHAT]) for number in range(2)]
    await asyncio.to_thread(servers.cluster.stop)
    stopped_at = time.monotonic()
    try:
        code, said = await command(servers, "grants", "add", "agent-1", "new.localhost")
        assert code == 1, said
        assert "cannot reach the database" in said
        assert "check that PostgreSQL runs" in said
        blind: dict[int, float] = {}

        async def both_are_blind() -> bool:
            for number in range(2):
                answer = await servers.get(number, FILES, yara[FILES], "/bytes/1")
                if answer.status == 503:
                    blind.setdefault(number, time.monotonic() - stopped_at)
                assert answer.status == (503 if number in blind else 200)
            return len(blind) == 2

        await eventually(both_are_blind, "both servers refuse people", BLIND + 10, 0.1)
        # It counts from the last look, up to five seconds before.
        assert min(blind.values()) > BLIND - 6
        assert await statuses(OPEN) == [200, 200], "what is open to everybody stays open"
        for socket in sockets:
            socket.say()
        await eventually(lambda: all(s.is_complete for s in sockets), "what runs goes on")
    finally:
        begun_at = time.monotonic()
        await asyncio.to_thread(servers.cluster.start)

    async def both_see() -> bool:
        return await statuses(FILES) == [200, 200]

    await eventually(both_see, "both servers let people in again", 10)
    back = time.monotonic() - begun_at
    code, said = await command(servers, "grants", "add", "agent-1", "new.localhost")
    assert code == 0, said
    await servers.admin(0, "/v1/sessions/end", {"user": "yara"})
    await eventually(lambda: all(s.ended_at for s in sockets), "they cut again", 5)
    measured(
        f"without the database both servers refused people after"
        f" {blind[0]:.1f} s and {blind[1]:.1f} s (blind: {BLIND:g} s), and let them in again"
        f" {back:.1f} s after its start"
    )
