"""A service's policy, enforced at the server: every protection through the whole chain."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from websockets.exceptions import InvalidStatus

from tests.support.backends import Origin, WsEcho
from tests.support.client import Response
from tests.support.entrypoint import Entrypoint
from tests.support.issuer import Issuer, reply
from tests.support.ports import closed_port
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("policy"),
]

ELSEWHERE = ["203.0.113.0/24", "2001:db8::/32"]
SECRET = "a secret of at least thirty-two bytes"
ORIGIN = "https://app.example"
USERS = {
    "ann": "$2b$12$ZBy7b6XfZUWI3JJv.t/LheHzOZPMby6ITl8/cRZRh0ARRML/hMLBi",
    "ben": "$argon2id$v=19$m=65536,t=3,p=4$DX+gdfmm4Q7DtawOw/e0ww"
    "$gTk3twiQQYm7LGu8QTOQhPQTS6P+gkHnrN2I3Aina+4",
}
"""Users with the password "secret"."""


def handler(kind: str, **config: Any) -> dict[str, Any]:
    return {"type": kind, "config": config}


def route(*handlers: dict[str, Any], **match: Any) -> dict[str, Any]:
    return {"match": match, "handle": list(handlers)}


def policies(port: int, ws_port: int) -> list[dict[str, Any]]:
    """The services, by what stands in front of them."""
    only_elsewhere = handler("ip_whitelist", allowed_ips=ELSEWHERE)
    edits = handler(
        "headers",
        request={
            "set": {"X-User": "me", "X-Checksum": "ours"},
            "add": {"X-Seen": "0trust", "Content-MD5": "ours"},
            "delete": ["Cookie", "Digest"],
        },
        response={
            "set": {"X-Frame-Options": "DENY", "X-Checksum": "ours"},
            "delete": ["Date", "Server-Timing"],
        },
    )
    users: dict[str, Any] = {"type": "basic_auth", "config": {"users": USERS}}
    token: dict[str, Any] = {
        "type": "jwt",
        "config": {"algorithm": "HS256", "secret": SECRET, "issuer": "us"},
    }
    cors = {
        "origins": [ORIGIN],
        "methods": ["GET", "PUT"],
        "headers": ["X-Token"],
        "allow_credentials": True,
    }
    return [
        service("open.localhost", port),
        service("closed.localhost", ws_port, routes=[route(only_elsewhere)]),
        service(
            "denied.localhost", port, routes=[route(handler("ip_deny", denied_ips=["127.0.0.0/8"]))]
        ),
        service(
            "here.localhost", port, routes=[route(handler("ip_allow", allowed_ips=["127.0.0.1"]))]
        ),
        service("admin.localhost", port, routes=[route(only_elsewhere, path="/admin/*"), route()]),
        service("some.localhost", port, routes=[route(path="/bytes/*", method="GET")]),
        service("limited.localhost", port, routes=[route(handler("rate_limit", rate="3/hour"))]),
        service("login.localhost", port, security={"auth": users}),
        service("token.localhost", port, security={"auth": token}),
        service("cors.localhost", port, security={"cors": cors, "auth": token}),
        service("broken.localhost", closed_port(), security={"cors": cors}),
        service("edited.localhost", port, routes=[route(edits)]),
        service(
            "elsewhere.localhost",
            port,
            routes=[
                route(
                    handler("redirect", location="https://{host}/new{uri}", status=308),
                    path="/old/*",
                ),
                route(handler("respond", status=503, body="closed today"), path="/shop/*"),
                route(handler("rewrite", strip_prefix="/api"), path="/api/*"),
                route(handler("rewrite", replace_prefix={"/v1": "/echo"}), path="/v1/*"),
            ],
        ),
        service(
            "confined.localhost",
            port,
            routes=[route(handler("rewrite", replace_prefix={"/pub": "/echo/public"}))],
        ),
        service("small.localhost", port, max_request_body="1KB"),
        service("few.localhost", ws_port, max_websockets_per_client=1),
        service("scarce.localhost", ws_port, max_websockets=1),
        service("ws.localhost", ws_port),
    ]


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("policy")
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        services = policies(origin.port, ws.port)
        async with Stack(folder, authority, agents={"agent-1": services}) as stack:
            yield stack


@pytest.fixture(params=["caddy", "api"])
def entrypoint(request: pytest.FixtureRequest, stack: Stack) -> Entrypoint:
    found: Entrypoint = getattr(stack, request.param)
    return found


def echoed(response: Response) -> list[tuple[str, str]]:
    """The fields that the backend saw."""
    assert response.status == 200, response
    return [(name.lower(), value) for name, value in response.json()["fields"]]


def refusal(response: Response) -> tuple[int, str | None]:
    return response.status, response.error_code


# Addresses


@pytest.mark.parametrize(
    "said", ["garbage", "127.0.0.1, 203.0.113.9", "unknown", "127.0.0.1:x", "", "127.0.0.1%lo"]
)
async def test_a_client_without_a_readable_address(stack: Stack, said: str) -> None:
    """The service admits 127.0.0.1, the proxy's own address; an unknown client does not get it."""
    fields = ("X-Real-IP", said), ("X-Forwarded-Proto", "https")
    for host in ("here.localhost", "denied.localhost", "closed.localhost", "limited.localhost"):
        assert refusal(await stack.api.get(host, "/echo", *fields)) == (
            400,
            "client_address_unreadable",
        )
    got = dict(echoed(await stack.api.get("open.localhost", "/echo", *fields)))
    assert (got["x-real-ip"], got["x-forwarded-for"]) == ("unknown", "unknown")


@pytest.mark.parametrize(
    "said", ["127.0.0.1:4711", "[::ffff:127.0.0.1]:4711", "::ffff:127.0.0.1", None]
)
async def test_an_address_that_is_written_another_way(stack: Stack, said: str | None) -> None:
    fields = [("X-Forwarded-Proto", "https"), *([("X-Real-IP", said)] if said else [])]
    got = dict(echoed(await stack.api.get("here.localhost", "/echo", *fields)))
    assert (got["x-real-ip"], got["x-forwarded-for"]) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize(
    "forged",
    [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-For", "203.0.113.7, 203.0.113.8"),
        ("Forwarded", "for=203.0.113.7"),
        ("True-Client-IP", "203.0.113.7"),
    ],
)
async def test_an_address_that_is_claimed_counts_for_nothing(
    stack: Stack, forged: tuple[str, str]
) -> None:
    for host in ("closed.localhost", "denied.localhost"):
        assert refusal(await stack.caddy.get(host, "/", forged, ("X-Real-IP", "203.0.113.7"))) == (
            403,
            "ip_refused",
        )
    assert (await stack.caddy.get("here.localhost", "/bytes/1", forged)).status == 200


async def test_an_upgrade_is_refused_like_everything_else(entrypoint: Entrypoint) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with entrypoint.websocket("closed.localhost"):
            pass
    assert refused.value.response.status_code == 403
    assert refused.value.response.headers["x-0trust-error"] == "ip_refused"


# Paths


@pytest.mark.parametrize(
    "target",
    [
        "/admin",
        "/admin/",
        "/admin/x",
        "//admin",
        "/%61dmin",
        "/%2561dmin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/./admin",
        "/x/..;/admin",
        "/admin;x",
        "/\\admin",
        "/admin%2Fx",
        "/admin?x=/",
    ],
)
async def test_no_spelling_of_a_path_gets_around_its_route(
    entrypoint: Entrypoint, target: str
) -> None:
    response = await entrypoint.get("admin.localhost", target)
    assert refusal(response) in {(403, "ip_refused"), (400, "ambiguous_path")}, response


async def test_the_rest_of_the_host_is_open(entrypoint: Entrypoint) -> None:
    assert (await entrypoint.get("admin.localhost", "/bytes/5")).status == 200
    assert (await entrypoint.get("admin.localhost", "/administration")).error_code is None


async def test_what_no_route_takes(entrypoint: Entrypoint) -> None:
    assert (await entrypoint.get("some.localhost", "/bytes/1")).status == 200
    assert refusal(await entrypoint.get("some.localhost", "/other")) == (404, "no_route")
    assert refusal(await entrypoint.request("some.localhost", "POST", "/bytes/1", body=b"x")) == (
        404,
        "no_route",
    )


# How often


async def test_who_asks_too_often_is_told_to_wait(stack: Stack) -> None:
    for left in (2, 1, 0):
        response = await stack.caddy.get("limited.localhost", "/bytes/1")
        assert response.status == 200
        assert response.get("ratelimit-policy") == '"default";q=3;w=3600'
        assert f"r={left};" in (response.get("ratelimit") or "")
    for forged in ("203.0.113.7", "203.0.113.8"):
        response = await stack.caddy.get(
            "limited.localhost", "/bytes/1", ("X-Forwarded-For", forged)
        )
        assert refusal(response) == (429, "rate_limited")
        assert 0 < int(response.get("retry-after") or 0) <= 1200


# Who


def basic(password: str, user: str = "ann") -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_a_password(entrypoint: Entrypoint) -> None:
    asked = await entrypoint.get("login.localhost", "/bytes/1")
    assert refusal(asked) == (401, "unauthorized")
    assert asked.get("www-authenticate") == 'Basic realm="restricted", charset="UTF-8"'
    assert (await entrypoint.get("login.localhost", "/bytes/1", basic("wrong"))).status == 401
    async with await entrypoint.open("login.localhost") as client:
        assert (await client.request("GET", "/bytes/1", [basic("secret")])).status == 200
        begun_at = time.monotonic()
        for _ in range(20):
            assert (await client.request("GET", "/bytes/1", [basic("secret")])).status == 200
        assert time.monotonic() - begun_at < 2, (
            "the hash was computed again: it takes a quarter of a second"
        )
        assert "authorization" not in dict(
            echoed(await client.request("GET", "/echo", [basic("secret")]))
        )


async def test_a_password_by_argon2(entrypoint: Entrypoint) -> None:
    answers = [
        await entrypoint.get("login.localhost", "/bytes/1", basic(word, "ben"))
        for word in ("secret", "wrong")
    ]
    assert [answer.status for answer in answers] == [200, 401]


async def test_an_upload_that_comes_with_its_password(entrypoint: Entrypoint) -> None:
    """The server keeps the data that arrives while it computes the hash."""
    body = bytes(range(256)) * 4096
    response = await entrypoint.request("login.localhost", "POST", "/echo", [basic("secret")], body)
    assert response.status == 200
    assert (
        await entrypoint.request("login.localhost", "POST", "/echo", [basic("wrong")], b"x" * 1000)
    ).status == 401


def token(**claims: Any) -> tuple[str, str]:
    key = OctKey.import_key(SECRET)
    claims = {"iss": "us", "exp": int(time.time()) + 60, **claims}
    return "Authorization", "Bearer " + jwt.encode({"alg": "HS256"}, claims, key)


async def test_a_token(entrypoint: Entrypoint) -> None:
    assert (await entrypoint.get("token.localhost", "/bytes/1", token())).status == 200
    for bad in (
        token(iss="them"),
        token(exp=1),
        ("Authorization", "Bearer x.y.z"),
        ("X-None", "1"),
    ):
        response = await entrypoint.get("token.localhost", "/bytes/1", bad)
        assert refusal(response) == (401, "unauthorized")
        assert (response.get("www-authenticate") or "").startswith("Bearer ")


# Cross-origin


async def test_a_preflight_needs_no_login(entrypoint: Entrypoint) -> None:
    asked = [("Origin", ORIGIN), ("Access-Control-Request-Method", "PUT")]
    allowed = await entrypoint.request("cors.localhost", "OPTIONS", "/bytes/1", asked)
    assert allowed.status == 204
    assert allowed.get("access-control-allow-origin") == ORIGIN
    assert allowed.get("access-control-allow-methods") == "GET, PUT"
    foreign = [("Origin", "https://evil.example"), asked[1]]
    refused = await entrypoint.request("cors.localhost", "OPTIONS", "/bytes/1", foreign)
    assert refusal(refused) == (403, "origin_refused")


async def test_answers_say_who_may_read_them(entrypoint: Entrypoint) -> None:
    for fields, status in (([token()], 200), ([], 401)):
        response = await entrypoint.get("cors.localhost", "/bytes/1", ("Origin", ORIGIN), *fields)
        assert response.status == status
        assert response.all("access-control-allow-origin") == [ORIGIN]
        assert response.get("access-control-allow-credentials") == "true"
    foreign = await entrypoint.get(
        "cors.localhost", "/bytes/1", ("Origin", "https://evil.example"), token()
    )
    assert foreign.get("access-control-allow-origin") is None


# What is changed


async def test_headers_of_both_directions(entrypoint: Entrypoint) -> None:
    response = await entrypoint.get(
        "edited.localhost", "/echo", ("Cookie", "c"), ("X_User", "forged"), ("X-Seen", "a")
    )
    seen = echoed(response)
    assert [value for name, value in seen if name.replace("_", "-") == "x-user"] == ["me"]
    assert [value for name, value in seen if name == "x-seen"] == ["a", "0trust"]
    assert "cookie" not in dict(seen)
    assert response.all("x-frame-options") == ["DENY"]


async def test_edits_of_headers_hold_for_trailers(stack: Stack) -> None:
    """Edits apply in both directions and to every spelling of a name."""
    async with await stack.api.open("edited.localhost") as client:
        await client.send_head("POST", "/echo", [("Transfer-Encoding", "chunked")])
        await client.send(
            b"1\r\nx\r\n0\r\nX_Checksum: evil\r\nContent-md5: evil\r\nDIGEST: evil\r\nETag:"
            b" good\r\n\r\n"
        )
        response = await client.read_response()
        assert dict(echoed(response))["x-checksum"] == "ours"
        assert response.json()["trailers"] == [["ETag", "good"]]
        response = await client.get("/trailers?X_checksum=evil&SERVER-Timing=evil&Grpc-Status=0")
        assert response.all("x-checksum") == ["ours"]
        assert response.trailers == [("Grpc-Status", "0")]


async def test_answers_that_need_no_backend(entrypoint: Entrypoint) -> None:
    moved = await entrypoint.get("elsewhere.localhost", "/old/x?y=1")
    assert (moved.status, moved.get("location")) == (
        308,
        "https://elsewhere.localhost/new/old/x?y=1",
    )
    closed = await entrypoint.get("elsewhere.localhost", "/shop/")
    assert (closed.status, closed.body, closed.error_code) == (503, b"closed today", None)


async def test_the_backend_sees_another_path(entrypoint: Entrypoint) -> None:
    assert (await entrypoint.get("elsewhere.localhost", "/api/echo/a%2Fb?c")).json()[
        "target"
    ] == "/echo/a%2Fb?c"
    assert (await entrypoint.get("elsewhere.localhost", "/v1/a?c")).json()["target"] == "/echo/a?c"


@pytest.mark.parametrize(
    "rest", ["/../../private", "/%2e%2e/%2e%2e/private", "/..%2f..%2fprivate", "/..;/private"]
)
async def test_a_rewritten_path_stays_below_its_prefix(stack: Stack, rest: str) -> None:
    assert (await stack.api.get("confined.localhost", "/pub/x")).json()[
        "target"
    ] == "/echo/public/x"
    response = await stack.api.get("confined.localhost", f"/pub{rest}")
    assert refusal(response) == (400, "ambiguous_path"), response.json()["target"]


# Limits


async def test_a_body_that_is_too_large(entrypoint: Entrypoint) -> None:
    assert (
        await entrypoint.request("small.localhost", "POST", "/echo", body=bytes(1000))
    ).status == 200
    assert refusal(
        await entrypoint.request("small.localhost", "POST", "/echo", body=bytes(1001))
    ) == (
        413,
        "body_too_large",
    )


@pytest.mark.parametrize(("host", "status"), [("few.localhost", 429), ("scarce.localhost", 503)])
async def test_so_many_websockets_of_one_client_or_of_the_service(
    stack: Stack, host: str, status: int
) -> None:
    async with stack.caddy.websocket(host) as first:
        with pytest.raises(InvalidStatus) as refused:
            async with stack.caddy.websocket(host):
                pass
        assert refused.value.response.status_code == status
        assert refused.value.response.headers["Retry-After"]
        await first.send("still here")
        assert await first.recv() == "still here"

    async def again() -> bool:
        try:
            async with stack.caddy.websocket(host):
                return True
        except InvalidStatus:
            return False

    await eventually(again, "another one may come")


# Refusals, as a browser's script sees them


async def test_a_script_sees_why_nothing_came(entrypoint: Entrypoint) -> None:
    broken = await entrypoint.get("broken.localhost", "/", ("Origin", ORIGIN))
    assert refusal(broken) == (502, "upstream_unreachable")
    assert broken.all("access-control-allow-origin") == [ORIGIN]
    unauthorized = await entrypoint.get("cors.localhost", "/", ("Origin", ORIGIN))
    assert refusal(unauthorized) == (401, "unauthorized")
    assert unauthorized.all("access-control-allow-origin") == [ORIGIN]
    foreign = await entrypoint.get("broken.localhost", "/", ("Origin", "https://evil.example"))
    assert (foreign.status, foreign.get("access-control-allow-origin")) == (502, None)


# Reload


async def test_a_protection_that_is_added_disturbs_nobody_else(stack: Stack) -> None:
    agent = stack.agents["agent-1"]
    before = [dict(one) for one in agent.services]
    deny = handler("ip_deny", denied_ips=["0.0.0.0/0", "::/0"])
    closed = [
        {**one, "routes": [route(deny)]} if one["hostname"] == "open.localhost" else one
        for one in before
    ]
    assert (await stack.caddy.get("open.localhost", "/bytes/1")).status == 200
    async with stack.caddy.websocket("ws.localhost") as socket:
        agent.set_services(closed)
        seen: list[int] = []
        async with asyncio.timeout(15):
            while 403 not in seen:
                seen.append((await stack.caddy.get("open.localhost", "/bytes/1")).status)
        assert set(seen) <= {200, 403}, "between the two there is nothing else"
        for _ in range(10):
            assert (await stack.caddy.get("open.localhost", "/bytes/1")).status == 403
        await socket.send("undisturbed")
        assert await socket.recv() == "undisturbed"
        agent.set_services(before)

        async def is_open() -> bool:
            return (await stack.caddy.get("open.localhost", "/bytes/1")).status == 200

        await eventually(is_open, "the service is open again")
        await socket.send("still")
        assert await socket.recv() == "still"


async def test_keys_that_their_issuer_publishes(stack: Stack) -> None:
    agent = stack.agents["agent-1"]
    before = list(agent.services)
    async with Issuer() as issuer:
        issuer.add_key("1")
        issuer.answer, good = (lambda _: reply(503, b"")), issuer.answer
        auth = {
            "type": "jwt",
            "config": {"algorithm": "RS256", "jwks_url": issuer.url, "issuer": "us"},
        }
        asked = [
            {**one, "security": {"auth": auth}} if one["hostname"] == "token.localhost" else one
            for one in before
        ]
        agent.set_services(asked)
        bearer = ("Authorization", f"Bearer {issuer.token('1', iss='us')}")

        async def code() -> str:
            return (await stack.caddy.get("token.localhost", "/bytes/1", bearer)).error_code or ""

        async def is_without_keys() -> bool:
            return await code() == "keys_missing"

        await eventually(is_without_keys, "without keys nobody passes")
        assert refusal(await stack.caddy.get("token.localhost", "/bytes/1")) == (
            503,
            "keys_missing",
        )
        issuer.answer = good

        async def is_good() -> bool:
            return (await stack.caddy.get("token.localhost", "/bytes/1", bearer)).status == 200

        await eventually(is_good, "the keys have come", 20)
        refused = {
            "another's": jwt.encode(
                {"alg": "RS256", "kid": "1"},
                {"iss": "us", "exp": time.time() + 60},
                RSAKey.generate_key(2048),
            ),
            "of another issuer": issuer.token("1", iss="them"),
            "too old": issuer.token("1", iss="us", exp=1),
        }
        for what, token in refused.items():
            said = await stack.caddy.get(
                "token.localhost", "/bytes/1", ("Authorization", f"Bearer {token}")
            )
            assert refusal(said) == (401, "unauthorized"), what
    agent.set_services(before)


async def test_a_file_that_asks_for_what_cannot_be_given_changes_nothing(stack: Stack) -> None:
    agent = stack.agents["agent-1"]
    before = list(agent.services)
    asked = [
        {**one, "tls": {"client_auth": "require"}} if one["hostname"] == "login.localhost" else one
        for one in before
    ]
    agent.set_services(asked)
    await eventually(
        lambda: "client certificates are not supported" in agent.process.text(),
        "the agent's log names the key",
    )
    assert refusal(await stack.caddy.get("login.localhost", "/bytes/1")) == (401, "unauthorized")
    agent.set_services(before)
