"""Tests of the gate check, with the ingress and a gatekeeper around it."""

import asyncio
import base64
import threading
from time import time

import bcrypt
import pytest

from tests.support.waiting import eventually
from tests.unit.server.gated_proxy import AUTH_HOST, PAGE, SCRIPT, GatedProxy, portal_app
from zerotrust.access.subject import Subject, SubjectKind
from zerotrust.model.server import ProxyApi
from zerotrust.net.asgi import AsgiBridge
from zerotrust.net.json_api import Call, JsonApi, Reply
from zerotrust.server.access import gatekeeper
from zerotrust.tunnel.codes import KIND_TUNNEL

pytestmark = pytest.mark.anyio

FAMILY = {"allow": [{"group": "family"}, {"machine": "frame"}]}
BEN = Subject(kind=SubjectKind.USER, id="u_ben", name="ben", shown_name="Ben <x>")


async def test_a_page_load_without_a_pass_is_led_to_the_sign_in() -> None:
    proxy = GatedProxy(FAMILY)
    said = await proxy.ask("GET /x?y=1", *PAGE)
    assert said.startswith(b"HTTP/1.1 302 Found\r\n")
    assert b"\r\nLocation: https://auth.example.com/go?host=app.example.com&to=%2Fx%3Fy%3D1&n=" in (
        said
    )
    assert b"\r\nCache-Control: no-store\r\n" in said
    assert b"\r\nSet-Cookie: __Host-0trust-way=" in said
    assert proxy.opened == []
    assert proxy.ingress.refused["login_required"] == 1


async def test_strangers_do_not_learn_if_an_agent_is_connected() -> None:
    proxy = GatedProxy(FAMILY, default="signed_in")
    for host in ("app.example.com", "other.example.com"):
        proxy.connection.data_received(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        said = await proxy.hear()
        assert said.startswith(b"HTTP/1.1 401 ")
        proxy.connect()


async def test_a_pass_opens_its_host_and_stays_on_the_server() -> None:
    proxy = GatedProxy(FAMILY)
    cookie, credential = proxy.enter(seen_at=time() - 600, sign_in=proxy.sign_in()[1])
    way = "Cookie: __Host-0trust-way=x; c=d"
    assert await proxy.ask("GET /x", cookie, way, *PAGE) == b""
    (opened,) = proxy.opened
    assert b"\r\nCookie: a=b\r\n" in opened.block
    assert b"\r\nCookie: c=d\r\n" in opened.block
    assert b"0trust" not in opened.block.lower()
    assert time() - credential.seen_at < 60
    assert credential.sign_in is not None and time() - credential.sign_in.seen_at < 60


async def test_a_public_host_gets_no_cookie_of_the_server_either() -> None:
    proxy = GatedProxy(default="public")
    cookie, _ = proxy.enter()
    assert await proxy.ask("GET /x", cookie, "Remote-User: me", "X-App: 1") == b""
    (opened,) = proxy.opened
    assert b"0trust" not in opened.block.lower()
    assert b"\r\nX-App: 1\r\n" in opened.block


@pytest.mark.parametrize("how", ["host", "sign_in", "ended", "expired", "idle", "signed_out"])
async def test_only_a_pass_in_force_of_this_host_opens_it(how: str) -> None:
    proxy = GatedProxy(FAMILY)
    _, parent = proxy.sign_in()
    match how:
        case "host":
            cookie, credential = proxy.enter(host="other.example.com")
        case "sign_in":
            cookie, credential = proxy.sign_in()
        case "expired":
            cookie, credential = proxy.enter(ends_at=time() - 1)
        case "idle":
            cookie, credential = proxy.enter(idle=60, seen_at=time() - 61)
        case _:
            cookie, credential = proxy.enter(sign_in=parent)
    if how == "ended":
        credential.ended = "signed out"
    if how == "signed_out":
        parent.ended = "signed out"
    said = await proxy.ask("GET /", cookie, *PAGE)
    assert said.startswith(b"HTTP/1.1 302 ")
    assert proxy.opened == []


async def test_two_cookies_count_as_none() -> None:
    proxy = GatedProxy(FAMILY)
    cookie, _ = proxy.enter()
    said = await proxy.ask("GET /", cookie, "Cookie: __Host-0trust=x", *PAGE)
    assert said.startswith(b"HTTP/1.1 302 ")


async def test_a_script_sees_401_and_where_to_sign_in() -> None:
    proxy = GatedProxy(FAMILY, policy={"security": {"cors": {"origins": ["https://a.example"]}}})
    said = await proxy.ask("GET /", *SCRIPT, "Origin: https://a.example")
    assert said.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nX-0Trust-Error: login_required\r\n" in said
    assert b"\r\nAccess-Control-Allow-Origin: https://a.example\r\n" in said
    assert b'"login_url": "https://app.example.com/.0trust/in"' in said
    assert b"Set-Cookie" not in said


async def test_who_may_not_enter_learns_who_they_are() -> None:
    proxy = GatedProxy(FAMILY)
    cookie, _ = proxy.enter(BEN)
    said = await proxy.ask("GET /", cookie, *PAGE)
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nX-0Trust-Error: access_denied\r\n" in said
    assert b"<strong>Ben &lt;x&gt;</strong>" in said
    assert (await proxy.ask("GET /", cookie, *SCRIPT)).startswith(b"HTTP/1.1 403 ")


async def test_http_leads_to_https_before_anything_else() -> None:
    proxy = GatedProxy(FAMILY)
    cookie, _ = proxy.enter()
    said = await proxy.ask("GET /x", cookie, "X-Forwarded-Proto: http")
    assert said.startswith(b"HTTP/1.1 301 ")
    assert b"\r\nLocation: https://app.example.com/x\r\n" in said


PREFLIGHT = ("Origin: https://a.example", "Access-Control-Request-Method: PUT")


async def test_a_preflight_is_answered_before_the_gate() -> None:
    proxy = GatedProxy(FAMILY, policy={"security": {"cors": {"origins": ["https://a.example"]}}})
    said = await proxy.ask("OPTIONS /", *PREFLIGHT)
    assert said.startswith(b"HTTP/1.1 204 ")
    assert b"\r\nAccess-Control-Allow-Origin: https://a.example\r\n" in said
    assert proxy.opened == []


@pytest.mark.parametrize("preflights", ["refuse", "backend"])
async def test_a_preflight_of_a_service_without_cors(preflights: str) -> None:
    proxy = GatedProxy({**FAMILY, "preflights": preflights})
    said = await proxy.ask("OPTIONS /", *PREFLIGHT)
    assert said[:12] == (b"HTTP/1.1 401" if preflights == "refuse" else b"")
    assert len(proxy.opened) == (preflights == "backend")
    # Other requests of this method are judged.
    proxy.connect()
    assert (await proxy.ask("OPTIONS /", PREFLIGHT[0])).startswith(b"HTTP/1.1 401 ")


UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        ("https://app.example.com", True),
        ("https://APP.example.com", True),
        ("https://other.example.com", False),
        ("https://app.example.com.evil.example", False),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("null", False),
        (None, False),
    ],
)
async def test_a_websocket_with_a_cookie_needs_its_own_origin(
    origin: str | None, passes: bool
) -> None:
    proxy = GatedProxy(FAMILY)
    cookie, _ = proxy.enter()
    fields = [*UPGRADE, cookie] + ([f"Origin: {origin}"] if origin is not None else [])
    said = await proxy.ask("GET /", *fields)
    assert said[:12] == (b"" if passes else b"HTTP/1.1 403")
    assert len(proxy.opened) == passes


async def test_a_websocket_without_a_pass_gets_401() -> None:
    proxy = GatedProxy(FAMILY)
    said = await proxy.ask("GET /", *UPGRADE, "Origin: https://app.example.com", *PAGE)
    assert said.startswith(b"HTTP/1.1 401 ")


async def test_a_websocket_with_a_token_needs_no_origin() -> None:
    proxy = GatedProxy(FAMILY)
    secret, _ = proxy.token()
    assert await proxy.ask("GET /", *UPGRADE, f"X-0Trust-Token: {secret}") == b""
    assert len(proxy.opened) == 1


def basic(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("how", ["field", "bearer", "basic", "cf_access", "pangolin"])
async def test_a_token_opens_and_stays_on_the_server(how: str) -> None:
    proxy = GatedProxy({**FAMILY, "token_headers": ["cf_access", "pangolin"]})
    secret, token = proxy.token()
    token.seen_at = 0.0
    field = {
        "field": f"X-0Trust-Token: {secret}",
        "bearer": f"Authorization: Bearer {secret}",
        "basic": basic("git", secret),
        "cf_access": f"CF-Access-Client-Secret: {secret}",
        "pangolin": f"P-Access-Token: {secret}",
    }[how]
    assert await proxy.ask("GET /", field) == b""
    (opened,) = proxy.opened
    assert secret.encode() not in opened.block
    assert b"uthorization" not in opened.block
    assert token.seen_at


async def test_a_bearer_of_the_backend_passes_untouched() -> None:
    proxy = GatedProxy(FAMILY)
    cookie, _ = proxy.enter()
    assert await proxy.ask("GET /", cookie, "Authorization: Bearer abc") == b""
    assert b"\r\nAuthorization: Bearer abc\r\n" in proxy.opened[0].block


async def test_programs_are_asked_for_a_password_where_the_rule_says_so() -> None:
    proxy = GatedProxy({**FAMILY, "basic": True})
    said = await proxy.ask("GET /repo/info/refs", "User-Agent: git/2.39")
    assert said.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nWWW-Authenticate: Basic realm=" in said
    # A browser would ask for a password in a window of its own.
    assert b"WWW-Authenticate" not in await proxy.ask("GET /", *SCRIPT)
    assert (await proxy.ask("GET /", *PAGE)).startswith(b"HTTP/1.1 302 ")


@pytest.mark.parametrize(
    "field", ["Remote-User: anna", "remote_user: anna", "CF-Access-Jwt: x", "X-0Trust-User: anna"]
)
async def test_fields_that_name_the_user_are_not_the_clients(field: str) -> None:
    proxy = GatedProxy(FAMILY)
    cookie, _ = proxy.enter()
    assert await proxy.ask("GET /", cookie, field, "X-App: 1") == b""
    (opened,) = proxy.opened
    assert field.partition(":")[0].encode().lower() not in opened.block.lower()


async def test_the_auth_host_belongs_to_the_portal() -> None:
    proxy = GatedProxy(FAMILY)
    cookie, sign_in = proxy.sign_in()
    proxy.connection.data_received(
        f"GET /go HTTP/1.1\r\nHost: {AUTH_HOST}\r\n{cookie}\r\n\r\n".encode()
    )
    said = await proxy.hear()
    assert said.endswith(
        f"\r\n\r\n{AUTH_HOST} {sign_in.id} {cookie.removeprefix('Cookie: ')}".encode()
    )


@pytest.mark.parametrize(
    "path", ["/.0trust/me", "/.0trust/in?code=x", "/.well-known/0trust/jwks.json"]
)
async def test_own_paths_of_a_host_with_a_gate_belong_to_the_portal(path: str) -> None:
    proxy = GatedProxy(FAMILY)
    said = await proxy.ask(f"GET {path}")
    assert said.endswith(b"\r\n\r\napp.example.com nobody -")
    cookie, credential = proxy.enter()
    said = await proxy.ask(f"GET {path}", cookie)
    assert f"app.example.com {credential.id} a=b; __Host-0trust=".encode() in said
    # Another host's pass proves nothing here.
    cookie, _ = proxy.enter(host="other.example.com")
    assert b"app.example.com nobody " in await proxy.ask(f"GET {path}", cookie)
    assert proxy.opened == []


async def test_own_paths_of_other_hosts_belong_to_the_service() -> None:
    proxy = GatedProxy(default="public")
    assert await proxy.ask("GET /.0trust/me") == b""
    assert len(proxy.opened) == 1


@pytest.mark.parametrize("path", ["/.0trustx", "/x/.0trust/me", "//.0trust/me", "/%2e0trust/me"])
async def test_other_paths_are_judged(path: str) -> None:
    proxy = GatedProxy(FAMILY)
    assert (await proxy.ask(f"GET {path}", *SCRIPT)).startswith(b"HTTP/1.1 401 ")


async def test_what_is_open_to_everybody_needs_nothing() -> None:
    proxy = GatedProxy({**FAMILY, "paths": [{"match": ["/healthz"], "allow": "anyone"}]})
    assert await proxy.ask("GET /healthz") == b""
    assert len(proxy.opened) == 1
    said = await proxy.ask("GET /a/..%2fhealthz", *PAGE)
    assert said.startswith(b"HTTP/1.1 400 ") or said == b""


@pytest.mark.parametrize(
    "field",
    [
        "X-Forwarded-Uri: /healthz",
        "X-Original-URL: /healthz",
        "X-Rewrite-URL: /healthz",
        "X-Forwarded-Method: OPTIONS",
        "X-HTTP-Method-Override: OPTIONS",
        "X-Forwarded-Host: open.example.com",
        "Forwarded: host=open.example.com",
        "X-Auth-Request-Redirect: /healthz",
        "User-Agent: kube-probe/1.29",
        "User-Agent: GoogleHC/1.0",
        "Referer: https://app.example.com/healthz",
        "X-Forwarded-User: anna",
        "X-0Trust-Jwt-Assertion: e30.e30.x",
        "Authorization: Bearer e30.e30.x",
    ],
)
async def test_no_field_and_no_user_agent_opens_anything(field: str) -> None:
    proxy = GatedProxy(
        {**FAMILY, "paths": [{"match": ["/healthz"], "allow": "anyone"}]},
        {"hosts": ["open.example.com"], "allow": "anyone"},
    )
    said = await proxy.ask("GET /x", field, *SCRIPT)
    assert said.startswith(b"HTTP/1.1 401 ")
    assert proxy.opened == []


@pytest.mark.parametrize("how", ["cookie", "token"])
async def test_the_head_of_an_upgrade_holds_no_credential(how: str) -> None:
    proxy = GatedProxy(FAMILY)
    cookie, _ = proxy.enter()
    secret, _ = proxy.token()
    field = cookie if how == "cookie" else f"X-0Trust-Token: {secret}"
    own = ("Origin: https://app.example.com", "Cookie: __Host-0trust-way=x; c=d")
    assert await proxy.ask("GET /", *UPGRADE, field, *own) == b""
    (opened,) = proxy.opened
    assert b"\r\nUpgrade: websocket\r\n" in opened.block
    assert b"\r\nCookie: c=d\r\n" in opened.block
    for credential in (b"__Host-0trust", secret.encode(), b"X-0Trust-Token"):
        assert credential.lower() not in opened.block.lower()


async def test_a_backend_that_clears_all_cookies_ends_no_session() -> None:
    """Its host name's cookies are gone in the browser, which signs in anew; it opens nothing."""
    proxy = GatedProxy(FAMILY)
    cookie, credential = proxy.enter()
    await proxy.ask("GET /", cookie)
    said = await proxy.answer(
        b'HTTP/1.1 200 OK\r\nClear-Site-Data: "cookies"\r\n', kind=1, body=b"hi"
    )
    assert b'\r\nClear-Site-Data: "cookies"\r\n' in said
    assert not credential.end_reason(time())
    proxy.connect()
    assert (await proxy.ask("GET /", *PAGE)).startswith(b"HTTP/1.1 302 ")


async def test_while_the_database_cannot_be_read_people_get_503() -> None:
    proxy = GatedProxy({**FAMILY, "paths": [{"match": ["/healthz"], "allow": "anyone"}]})
    cookie, _ = proxy.enter()
    proxy.state.blind = True
    said = await proxy.ask("GET /", cookie, *PAGE)
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 60\r\n" in said
    assert await proxy.ask("GET /healthz", cookie) == b""


class Readings:
    """Stands for the database of several servers."""

    def __init__(self, proxy: GatedProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.done = asyncio.Event()
        monkeypatch.setattr(proxy.state, "read_changes", self.read)

    async def read(self) -> None:
        self.count += 1
        await self.done.wait()


async def test_an_unknown_cookie_waits_for_the_changes_of_other_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = GatedProxy(FAMILY, shared=True)
    readings = Readings(proxy, monkeypatch)
    cookie, credential = proxy.enter(known=False)
    assert await proxy.ask("POST /", cookie, "Content-Length: 2", body=b"hi") == b""
    assert proxy.opened == []
    proxy.state.index.add(credential)
    readings.done.set()
    for _ in range(2):
        assert await proxy.hear() == b""
    assert len(proxy.opened) == 1
    assert proxy.last[1].body == b"hi"
    # Known credentials wait for nothing.
    proxy.connect()
    assert await proxy.ask("GET /", cookie) == b""
    assert readings.count == 1


async def test_requests_wait_for_one_reading_together(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = GatedProxy(FAMILY, shared=True)
    readings = Readings(proxy, monkeypatch)
    transports = []
    for _ in range(3):
        proxy.connect()
        transports.append(proxy.transport)
        assert await proxy.ask("GET /", proxy.enter(known=False)[0], *SCRIPT) == b""
    gone = proxy.connection
    gone.connection_lost(None)
    readings.done.set()
    await eventually(lambda: readings.count == 2, "the reading for all but the first has begun")
    for transport in transports[:2]:
        assert (await transport.written()).startswith(b"HTTP/1.1 401 ")
    assert readings.count == 2


async def test_a_request_that_comes_during_a_reading_waits_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = GatedProxy(FAMILY, shared=True)
    readings = Readings(proxy, monkeypatch)
    assert await proxy.ask("GET /", proxy.enter(known=False)[0], *SCRIPT) == b""
    await eventually(lambda: readings.count == 1, "the first reading has begun")
    proxy.connect()
    cookie, credential = proxy.enter(known=False)
    assert await proxy.ask("GET /", cookie, *SCRIPT) == b""

    async def read() -> None:
        proxy.state.index.add(credential)

    monkeypatch.setattr(proxy.state, "read_changes", read)
    readings.done.set()  # it has not seen what was committed since its begin

    async def goes_on() -> bool:
        assert await proxy.hear() == b""
        return bool(proxy.opened)

    await eventually(goes_on, "the request goes on")


async def test_too_many_requests_that_wait_count_as_strangers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gatekeeper, "MAX_WAITING", 1)
    proxy = GatedProxy(FAMILY, shared=True)
    readings = Readings(proxy, monkeypatch)
    assert await proxy.ask("GET /", proxy.enter(known=False)[0], *SCRIPT) == b""
    proxy.connect()
    said = await proxy.ask("GET /", proxy.enter(known=False)[0], *SCRIPT)
    assert said.startswith(b"HTTP/1.1 401 ")
    readings.done.set()
    await proxy.hear()


async def test_an_unknown_cookie_at_a_database_of_one_server_is_unknown() -> None:
    proxy = GatedProxy(FAMILY)
    said = await proxy.ask("GET /", proxy.enter(known=False)[0], *SCRIPT)
    assert said.startswith(b"HTTP/1.1 401 ")


async def test_the_portal_waits_for_the_changes_of_other_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = GatedProxy(FAMILY, shared=True)
    readings = Readings(proxy, monkeypatch)
    cookie, credential = proxy.enter(known=False)
    assert await proxy.ask("POST /.0trust/me", cookie, "Content-Length: 2", body=b"hi") == b""
    proxy.state.index.add(credential)
    readings.done.set()
    assert f"app.example.com {credential.id} ".encode() in await proxy.hear()


async def test_a_request_that_waited_for_its_agent_is_judged_anew() -> None:
    proxy = GatedProxy(FAMILY, api=ProxyApi(hold_timeout=60))
    cookie, credential = proxy.enter()
    proxy.registry.remove(proxy.agent_session)
    assert await proxy.ask("GET /", cookie, *SCRIPT) == b""
    proxy.state.index.end(credential, "signed out")
    proxy.return_agent()
    assert (await proxy.hear()).startswith(b"HTTP/1.1 401 ")


async def test_rules_that_close_a_host_hold_for_requests_that_wait() -> None:
    proxy = GatedProxy(default="public", api=ProxyApi(hold_timeout=60))
    proxy.registry.remove(proxy.agent_session)
    assert await proxy.ask("GET /", "Remote-User: me", *SCRIPT) == b""
    proxy.change_rules(FAMILY)
    proxy.return_agent()
    assert (await proxy.hear()).startswith(b"HTTP/1.1 401 ")


async def test_a_hostile_backend_or_agent_sets_no_cookie_of_the_server() -> None:
    headers = {"response": {"add": {"Set-Cookie": "__Host-0trust=y"}}}
    policy = {"global_middleware": [{"type": "headers", "config": headers}]}
    for rules in ([], [FAMILY]):
        proxy = GatedProxy(*rules, policy=policy, default="public")
        cookie, _ = proxy.enter()
        await proxy.ask("GET /", cookie)
        hint = await proxy.answer(
            b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: __Host-0trust=x\r\n", interim=True
        )
        said = await proxy.answer(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: __Host-0trust=x\r\nSet-Cookie: a=b\r\n"
            b"set-cookie: __host-0TRUST-way=z\r\n",
            kind=1,
            body=b"hi",
        )
        assert b"0trust" not in (hint + said).lower()
        assert b"\r\nSet-Cookie: a=b\r\n" in said


async def test_a_switch_of_protocols_sets_no_cookie_of_the_server() -> None:
    proxy = GatedProxy(FAMILY)
    secret, _ = proxy.token()
    await proxy.ask("GET /", *UPGRADE, f"X-0Trust-Token: {secret}")
    said = await proxy.answer(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Set-Cookie: __Host-0trust=x\r\n",
        kind=KIND_TUNNEL,
    )
    assert said.startswith(b"HTTP/1.1 101 ")
    assert b"0trust" not in said


async def test_a_sign_in_that_ends_during_a_login_does_not_meet_what_the_service_requires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rule lets everybody in; the service wants a signed-in user with a password."""
    may = threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: may.wait(10))
    users = {"ann": bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()}
    policy = {
        "access": {"require": [{"signed_in": True}]},
        "security": {"auth": {"type": "basic_auth", "config": {"users": users}}},
    }
    proxy = GatedProxy({"allow": "anyone"}, policy=policy)
    cookie, credential = proxy.enter()
    password = base64.b64encode(b"ann:x").decode()
    assert await proxy.ask("GET /", cookie, f"Authorization: Basic {password}", *SCRIPT) == b""
    proxy.state.index.end(credential, "signed out")
    may.set()
    assert (await proxy.settled()).startswith(b"HTTP/1.1 401 ")
    assert proxy.opened == []


@pytest.mark.parametrize("waits_for", ["agent", "database"])
async def test_a_request_that_waits_goes_on_when_access_is_turned_off(
    waits_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = GatedProxy(FAMILY, shared=True, api=ProxyApi(hold_timeout=60))
    cookie, _ = proxy.enter(known=waits_for == "agent")
    readings = Readings(proxy, monkeypatch)
    if waits_for == "agent":
        proxy.registry.remove(proxy.agent_session)
    assert await proxy.ask("GET /", cookie) == b""
    proxy.ingress.use_gates(None)
    readings.done.set()
    if waits_for == "agent":
        proxy.return_agent()
    for _ in range(2):
        assert await proxy.hear() == b""
    (opened,) = proxy.opened
    assert b"0trust" not in opened.block.lower()


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
async def test_no_agent_says_which_pages_may_use_the_hosts_of_the_server(method: str) -> None:
    """A wildcard service includes their names, but does not serve them."""
    cors = {"origins": ["https://app.example.com"], "allow_credentials": True}
    proxy = GatedProxy(FAMILY, admin_host="admin.example.com")
    proxy.register({"security": {"cors": cors}}, hosts=("*.example.com",))
    lines = [
        f"{method} / HTTP/1.1",
        "Host: admin.example.com",
        "Origin: https://app.example.com",
        "Access-Control-Request-Method: PUT",
    ]
    proxy.connection.data_received("\r\n".join([*lines, "", ""]).encode())
    said = await proxy.hear()
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b"access-control-allow" not in said.lower()


async def test_the_dashboard_has_room_of_its_own() -> None:
    """Strangers, whom the portal serves, cannot keep administrators out."""
    proxy = GatedProxy(
        FAMILY, admin_host="admin.example.com", admins=[{"group": "admins"}, {"user": "anna"}]
    )
    proxy.gatekeeper.dashboard = AsgiBridge(portal_app(), proxy.tasks)
    proxy.gatekeeper.portal = AsgiBridge(portal_app(), proxy.tasks, most=0)
    cookie, credential = proxy.enter(host="admin.example.com")
    said = await at_admin_host(proxy, "/agents", cookie)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert f"admin.example.com {credential.id} ".encode() in said
    assert (await at_admin_host(proxy, "/.0trust/in", cookie)).startswith(b"HTTP/1.1 503 ")
    ben, _ = proxy.enter(BEN, host="admin.example.com")
    assert (await at_admin_host(proxy, "/agents", ben)).startswith(b"HTTP/1.1 403 ")
    assert (await at_admin_host(proxy, "/agents", "A: b")).startswith(b"HTTP/1.1 401 ")
    proxy.gatekeeper.dashboard = None
    assert (await at_admin_host(proxy, "/agents", cookie)).startswith(b"HTTP/1.1 404 ")


async def at_admin_host(proxy: GatedProxy, target: str, *lines: str) -> bytes:
    proxy.connect()
    head = [f"GET {target} HTTP/1.1", "Host: admin.example.com", *lines, "", ""]
    proxy.connection.data_received("\r\n".join(head).encode())
    return await proxy.hear()


# The admin API at the admin host


ADMIN_HOST = "admin.example.com"


class AdminCalls:
    """A server with an admin host, whose API says who calls it."""

    def __init__(self, *, with_api: bool = True, **condition: object) -> None:
        self.proxy = GatedProxy(
            admin_host=ADMIN_HOST, admins=[{"group": "admins", **condition}], default="signed_in"
        )
        if with_api:
            endpoints = {("POST", "/v1/agents/revoke"): self._answer}
            self.proxy.ingress.admin_api = JsonApi(endpoints, self.proxy.tasks)
        self.proxy.ingress.use_gates(self.proxy.gatekeeper)
        self.proxy.gatekeeper.dashboard = AsgiBridge(portal_app(), self.proxy.tasks)
        self.proxy.observe()

    async def _answer(self, call: Call) -> Reply:
        return Reply({"caller": call.caller, "body": dict(call.body)})

    async def ask(self, *fields: str, host: str = ADMIN_HOST) -> str:
        """Send a call; return the status and the body of its answer."""
        body = b'{"agent": "home"}'
        head = [
            "POST /v1/agents/revoke HTTP/1.1",
            f"Host: {host}",
            "X-Real-IP: 203.0.113.7",
            f"Content-Length: {len(body)}",
            *fields,
        ]
        said = b""

        async def answered() -> bytes:
            nonlocal said
            said += await self.proxy.hear()
            return said

        self.proxy.connection.data_received("\r\n".join([*head, "", ""]).encode() + body)
        await eventually(answered, "an answer")
        start, _, rest = said.partition(b" ")[2].partition(b"\r\n\r\n")
        return f"{start[:3].decode()} {rest.decode()}"


async def test_a_machine_calls_the_admin_api_with_its_token() -> None:
    calls = AdminCalls()
    secret, token = calls.proxy.token("backup", admin=True, seen_at=0.0)
    assert await calls.ask(f"X-0Trust-Token: {secret}") == (
        '200 {"caller":"machine backup","body":{"agent":"home"}}'
    )
    assert time() - token.seen_at < 60
    (record,) = calls.proxy.records
    assert (record.subject, record.own_page) == ("machine:backup", True)


@pytest.mark.parametrize(
    "how", ["plain", "ended", "host", "origin", "address", "cookie", "nobody", "elsewhere", "off"]
)
async def test_no_other_request_reaches_the_admin_api(how: str) -> None:
    condition = {"ip": ["192.0.2.0/24"]} if how == "address" else {}
    calls = AdminCalls(with_api=how != "off", **condition)
    hosts = ("app.example.com",) if how == "host" else ()
    secret, token = calls.proxy.token("backup", admin=how != "plain", hosts=hosts)
    fields = [f"Authorization: Bearer {secret}"]
    if how == "ended":
        token.ended = "access withdrawn"
    if how == "origin":
        fields.append(f"Origin: https://{ADMIN_HOST}")
    if how == "cookie":
        fields = [f"Cookie: __Host-0trust={secret}"]
    if how == "nobody":
        fields = []
    host = "other.example.com" if how == "elsewhere" else ADMIN_HOST
    said = await calls.ask(*fields, host=host)
    assert said[:3] in ("401", "403"), said
    assert "caller" not in said


async def test_an_administrator_does_not_reach_the_admin_api_by_cookie() -> None:
    calls = AdminCalls()
    admin = Subject(kind=SubjectKind.USER, id="u_eve", name="eve", groups=frozenset(("admins",)))
    cookie, _ = calls.proxy.enter(admin, host=ADMIN_HOST)
    said = await calls.ask(cookie)
    assert said.startswith("200 admin.example.com"), "the dashboard answers"
