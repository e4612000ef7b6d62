"""A server's store of people for tests: a real database, a clock that the test sets."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from zerotrust.access.subject import Credential
from zerotrust.db import audit
from zerotrust.db.database import Database
from zerotrust.model.access import Access
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.access_tokens import AccessTokens
from zerotrust.server.access.people import NewPasskey, People, ProviderAccount
from zerotrust.server.access.share_links import ShareLinks
from zerotrust.server.access.sign_ins import BrowserInfo, IssuedCookie, SignIns

START = 1_800_000_000.0
HOST = "app.example.com"
VERIFIER = b"v" * 32
CHALLENGE = hashlib.sha256(VERIFIER).digest()


PROVIDERS = {
    name: {"issuer": f"https://{name}.example", "client_id": "0trust"}
    for name in ("google", "evil", "other", "p")
}


def access(**settings: Any) -> Access:
    """Return a section `access`."""
    return Access.model_validate({"auth_host": "auth.example.com", **settings})


@dataclass
class Clock:
    """Seconds since 1970, as the test says."""

    now: float = START

    def __call__(self) -> float:
        return self.now


class Store:
    """All use cases on one database."""

    def __init__(self, database: Database, section: Access, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.state = AccessState(database, section, clock=clock)
        self.people = People(self.state)
        self.sign_ins = SignIns(self.state)
        self.tokens = AccessTokens(self.state)
        self.links = ShareLinks(self.state)
        self.notified = 0
        self.state.subscribe(self._notify)
        self._clients = 0

    def _notify(self) -> None:
        self.notified += 1

    def actions(self) -> list[str]:
        """Return the actions in the audit log."""
        with self.database.transaction() as session:
            assert audit.verify(session).broken is None
            return [record.action for record in audit.records(session, limit=10**6)]

    def browser(self) -> BrowserInfo:
        """Return a browser in a network of its own."""
        self._clients += 1
        high, low = divmod(self._clients, 250)
        return BrowserInfo(client=f"198.51.{high}.{low + 1}", user_agent="Firefox")

    async def passkey(self, name: str, *groups: str) -> bytes:
        """Invite a user and register a passkey; return its id."""
        invitation = await self.people.invite(name, email=None, groups=list(groups), actor="uid 0")
        credential_id = secrets.token_bytes(16)
        await self.people.accept_invitation(invitation.secret, new_passkey(credential_id))
        return credential_id

    async def sign_in(self, credential_id: bytes) -> IssuedCookie:
        """Sign in with a passkey."""
        return await self.sign_ins.by_passkey(
            credential_id,
            self.browser(),
            counter=0,
            backed_up=False,
            spent=secrets.token_bytes(32),
        )

    async def enter(self, sign_in: Credential, host: str = HOST) -> Credential:
        """Make a pass from a sign-in."""
        code = await self.sign_ins.hand_over(sign_in, host=host, challenge=CHALLENGE, target="/x?y")
        made = await self.sign_ins.accept_hand_over(code, host=host, verifier=VERIFIER)
        return made.credential

    async def by_provider(self, account: ProviderAccount) -> IssuedCookie:
        """Sign in at a provider."""
        return await self.sign_ins.by_provider(
            account, self.browser(), spent=secrets.token_bytes(32)
        )


def new_passkey(credential_id: bytes) -> NewPasskey:
    """Return a passkey that a browser has registered."""
    return NewPasskey(
        credential_id=credential_id,
        public_key=b"cose",
        rp_id="auth.example.com",
        counter=0,
        backed_up=True,
        label="phone",
    )


@dataclass
class Stores:
    """Servers that share one database."""

    url: str
    clock: Clock = field(default_factory=Clock)
    opened: list[Database] = field(default_factory=list)

    async def start(self, **settings: Any) -> Store:
        """Start a server."""
        database = Database.open(self.url)
        self.opened.append(database)
        store = Store(database, access(**settings), self.clock)
        await store.state.load()
        return store


@contextmanager
def stores(url: str) -> Iterator[Stores]:
    """Yield a maker of servers; close their connections at the end."""
    made = Stores(url)
    yield made
    for database in made.opened:
        database.close()
