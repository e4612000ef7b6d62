"""Two servers that share a PostgreSQL database, with an agent each, and people who may enter."""

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.admin_socket import admin_client
from tests.support.backends import Origin, WsEcho
from tests.support.client import Client, Response
from tests.support.databases import Cluster
from tests.support.echo_socket import EchoSocket
from tests.support.people import CHALLENGE, VERIFIER, Clock, Store
from tests.support.stack import Authority, Stack, service
from zerotrust.db.database import Database
from zerotrust.model.access import Access
from zerotrust.server.access.sign_ins import IssuedCookie

AUTH = "auth.localhost"
HTTPS = ("X-Forwarded-Proto", "https")
Fields = list[tuple[str, str]]


class RealClock(Clock):
    """The time of this machine."""

    def __call__(self) -> float:
        return time.time()


@dataclass
class SharedServers:
    """Clients reach the first server through Caddy, the second directly.

    Attributes:
        store: use cases on the database of the servers.
    """

    stacks: tuple[Stack, Stack]
    store: Store
    cluster: Cluster

    async def admin(self, number: int, path: str, body: Mapping[str, Any]) -> Any:
        """Send a request to the admin socket of a server, as commands do."""
        async with admin_client(self.stacks[number].folder / "state" / "admin.sock") as client:
            answer = await client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def enter(self, sign_in: IssuedCookie, *hosts: str) -> dict[str, Fields]:
        """Return the header fields that show the passes of a sign-in, by host name."""
        passes: dict[str, Fields] = {}
        sign_ins = self.store.sign_ins
        for host in hosts:
            code = await sign_ins.hand_over(
                sign_in.credential, host=host, challenge=CHALLENGE, target="/"
            )
            issued = await sign_ins.accept_hand_over(code, host=host, verifier=VERIFIER)
            passes[host] = cookie(issued)
        return passes

    async def socket(self, number: int, host: str, fields: Fields, path: str = "/") -> EchoSocket:
        """Open a WebSocket at a server."""
        stack = self.stacks[number]
        if number == 0:
            port, tls = stack.https_port, stack.caddy.tls
            every = [("Origin", f"https://{host}:{port}"), *fields]
        else:
            port, tls = stack.api.port, None
            every = [("Origin", f"https://{host}"), HTTPS, *fields]
        return await EchoSocket.open(port, host, every, tls=tls, path=path)

    async def connect(self, number: int, host: str) -> Client:
        """Open a connection for requests."""
        stack = self.stacks[number]
        return await (stack.caddy if number == 0 else stack.api).open(host)

    async def get(self, number: int, host: str, fields: Fields, path: str = "/") -> Response:
        """Send a GET to a server."""
        async with await self.connect(number, host) as client:
            return await client.get(path, HTTPS, *fields)

    async def sign_out(self, number: int, host: str, fields: Fields, **form: str) -> None:
        """Press the button of the page for signing out."""
        path = "/.0trust/out"
        page = (await self.get(number, host, fields, path)).body.decode()
        token = re.search(r'name="csrf" value="([^"]+)"', page)
        assert token, page
        body = "&".join(f"{name}={value}" for name, value in {"csrf": token[1], **form}.items())
        async with await self.connect(number, host) as client:
            sent = [
                *(HTTPS, ("Sec-Fetch-Site", "same-origin"), *fields),
                ("Content-Type", "application/x-www-form-urlencoded"),
            ]
            answer = await client.request("POST", path, sent, body.encode())
        assert answer.status == 303, answer


def cookie(issued: IssuedCookie) -> Fields:
    """Return the header field that shows a sign-in or a pass."""
    return [("Cookie", f"__Host-0trust={issued.value}")]


@asynccontextmanager
async def shared_servers(
    folder: Path,
    authority: Authority,
    *,
    access: Mapping[str, Any],
    chat: Sequence[str],
    files: Sequence[str],
) -> AsyncIterator[SharedServers]:
    """Start the servers.

    Args:
        access: their section `access`.
        chat: host names of a WebSocket echo.
        files: host names of `tests.support.origin`.
    """
    cluster = Cluster()
    url = cluster.new()
    try:
        async with WsEcho(folder) as echo, Origin(folder) as origin:
            services = [service(host, echo.port) for host in chat]
            services += [service(host, origin.port) for host in files]
            made: list[Stack] = []
            for number in range(2):
                own = folder / f"server-{number + 1}"
                sections = {
                    "access": access,
                    "state": {"dir": str(own / "state"), "url": url},
                    "hot_reload": {"enabled": False, "drain_timeout": "1s"},
                }
                made.append(
                    Stack(
                        own,
                        authority,
                        agents={f"agent-{number + 1}": services},
                        with_caddy=number == 0,
                        sections=sections,
                    )
                )
            async with made[0], made[1]:
                for stack in made:
                    for host in (*chat, *files):
                        await stack.wait_published(host)
                for host in (AUTH, *chat, *files):
                    await made[0].caddy.get(host, "/")  # Caddy makes its certificate
                database = Database.open(url)
                try:
                    store = Store(database, Access.model_validate(access), RealClock())
                    await store.state.load()
                    yield SharedServers((made[0], made[1]), store, cluster)
                finally:
                    database.close()
    finally:
        cluster.close()
