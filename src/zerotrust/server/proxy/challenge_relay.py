"""Challenge relay: asks the other servers of the database for the answers to ACME challenges.

DNS names all servers for a host name, so an authority may ask one whose Caddy has not ordered the
certificate. Caddy gives a challenge that it does not know to its server, as any other request. This
server asks each other member at the http port of its Caddy, and hands on a valid key authorization.
A server that is asked by another one does not ask on.
"""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from zerotrust.http.acme_challenge import (
    MAX_KEY_AUTHORIZATION,
    UNKNOWN_CHALLENGE,
    challenge_of,
    is_key_authorization,
    member_target,
)
from zerotrust.middleware.interface import Answer
from zerotrust.model.base import join_address, split_address
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import trusting_nobody
from zerotrust.server.identity.membership import MemberServer
from zerotrust.server.proxy.request_context import RequestContext
from zerotrust.telemetry import logs

MAX_ASKED: Final = 32
"""Questions to members at the same time."""
MAX_SILENT: Final = 64
"""Members that are logged as silent."""
TIMEOUT: Final = 5.0
"""Seconds in which a member must answer. Let's Encrypt waits for ten."""

_TEXT: Final = b"Content-Type: text/plain\r\nCache-Control: no-store\r\n"
_UNKNOWN: Final = Answer(404, _TEXT, UNKNOWN_CHALLENGE)

_log = logs.logger("ingress")


class ChallengeRelay:
    """Finds the answers to challenges that the own Caddy does not know.

    Args:
        members: returns the other servers.
        certifies: returns True for host names that get a public certificate.

    Attributes:
        asked: number of questions that members have not answered.
        http_port: port of their Caddys for http; 0 if they have none.
    """

    def __init__(
        self,
        members: Callable[[], Collection[MemberServer]],
        certifies: Callable[[str], bool],
        tasks: Tasks,
        *,
        http_port: int,
    ) -> None:
        import httpx2  # noqa: F401 - now, as it takes long; a server without members saves it

        self._members = members
        self._certifies = certifies
        self._tasks = tasks
        self._silent: set[str] = set()
        self.asked = 0
        self.http_port = http_port

    def ask(
        self, context: RequestContext, answered: Callable[[RequestContext, Answer | None], None]
    ) -> Answer | None:
        """Park a request and ask the members for its answer, if it is a challenge.

        Args:
            answered: gets the answer to a request that was parked; None if no member has one.

        Returns:
            The answer if it is known at once. A request that has none, and is not parked, goes on.
        """
        asked = challenge_of(context.head)
        if asked is None:
            return None
        token, by_member = asked
        if by_member:
            return _UNKNOWN
        members = self._members() if self.http_port and self._certifies(context.host) else ()
        if members and self.asked + len(members) <= MAX_ASKED:
            context.park()
            self.asked += len(members)
            question = _Question(context.host, token, len(members), partial(answered, context))
            for member in members:
                self._tasks.spawn(self._ask_member(member, question), "ask for an ACME challenge")
        return None

    async def _ask_member(self, member: MemberServer, question: "_Question") -> None:
        import httpx2

        address = join_address(split_address(member.address)[0], self.http_port)
        found = None
        try:
            found = await _key_authorization(address, question.host, question.token)
            self._silent.discard(address)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            self._note_silence(address, str(error) or type(error).__name__)
        finally:
            self.asked -= 1
            question.heard(found)

    def _note_silence(self, address: str, reason: str) -> None:
        """Log once that a member does not answer: clients may cause questions as they like."""
        if address not in self._silent and len(self._silent) < MAX_SILENT:
            self._silent.add(address)
            _log.warning("a member does not answer ACME challenges", member=address, reason=reason)


class _Question:
    """A challenge for which members are asked; the first of their answers counts."""

    __slots__ = ("_answered", "_silent", "host", "token")

    def __init__(
        self, host: str, token: bytes, members: int, answered: Callable[[Answer | None], None]
    ) -> None:
        self.host = host
        self.token = token
        self._silent = members
        self._answered: Callable[[Answer | None], None] | None = answered

    def heard(self, key_authorization: bytes | None) -> None:
        """Take the answer of one of the members; None if it has none."""
        self._silent -= 1
        answered = self._answered
        if answered is None or (key_authorization is None and self._silent):
            return
        self._answered = None
        answered(None if key_authorization is None else Answer(200, _TEXT, key_authorization))


async def _key_authorization(address: str, host: str, token: bytes) -> bytes | None:
    """Return the key authorization that the Caddy at an address has for a challenge, or None.

    Raises:
        httpx2.HTTPError, httpx2.InvalidURL, TimeoutError: it does not answer.
    """
    import httpx2

    url = f"http://{address}{member_target(token).decode()}"
    body = bytearray()
    async with (
        asyncio.timeout(TIMEOUT),
        httpx2.AsyncClient(verify=trusting_nobody(), timeout=None, trust_env=False) as client,
        client.stream("GET", url, headers={"Host": host}) as response,
    ):
        if response.status_code != 200:
            return None
        async for data in response.aiter_raw():
            body += data
            if len(body) > MAX_KEY_AUTHORIZATION:
                return None
    return bytes(body) if is_key_authorization(bytes(body), token) else None
