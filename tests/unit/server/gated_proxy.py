"""A client connection, the ingress with a gatekeeper, and an agent session, without a network."""

from time import time
from types import SimpleNamespace
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support.agent_sessions import join
from tests.support.tunnel import Pair
from tests.unit.server.proxy_fixture import ProxyFixture
from zerotrust.access.gate_table import GateTable
from zerotrust.access.secret_format import MACHINE, digest_of, new_cookie, new_secret
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind
from zerotrust.db.database import Database
from zerotrust.model.access import Access
from zerotrust.model.server import ProxyApi
from zerotrust.net.asgi import AsgiApp, AsgiBridge
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.cutting import Cutting
from zerotrust.server.access.gatekeeper import Gatekeeper

HOST = "app.example.com"
AUTH_HOST = "auth.example.com"
ANNA = Subject(kind=SubjectKind.USER, id="u_anna", name="anna", groups=frozenset(("family",)))
PAGE = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html")
SCRIPT = ("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty")


async def _portal_page(request: Request) -> Response:
    credential = request.state.credential
    return PlainTextResponse(
        f"{request.state.host} {credential.id if credential else 'nobody'}"
        f" {request.headers.get('cookie', '-')}"
    )


def portal_app() -> AsgiApp:
    """Return an application that says what it learns of a request."""
    return Starlette(routes=[Route("/{path:path}", _portal_page, methods=["GET", "POST"])])


class GatedProxy(ProxyFixture):
    """`ProxyFixture` whose server has a section `access` with these rules."""

    signs_in = True

    def __init__(
        self,
        *rules: dict[str, Any],
        policy: dict[str, Any] | None = None,
        shared: bool = False,
        api: ProxyApi | None = None,
        **access: Any,
    ) -> None:
        super().__init__(policy or {}, api=api)
        section = access_section(*rules, **access)
        self.state = AccessState(cast("Database", SimpleNamespace(shared=shared)), section)
        self.gatekeeper = Gatekeeper(
            self.state,
            GateTable(section),
            portal=AsgiBridge(portal_app(), self.tasks),
            auth_origin=f"https://{AUTH_HOST}",
            shared=shared,
        )
        self.cutting = Cutting(self.gatekeeper, lambda: self.registry.sessions)
        self.ingress.use_gates(self.gatekeeper)

    def change_rules(self, *rules: dict[str, Any], **access: Any) -> None:
        """Use other rules, as a reload does."""
        self.gatekeeper.gates = GateTable(access_section(*rules, **access))
        self.cutting.changed()

    def return_agent(self) -> None:
        """Let the agent register its service again, in a new session."""
        self.pair = Pair()
        self.pair.pump()
        self.agent_session = join(self.registry, "home", self.pair.server.session)
        self.register({})

    def sign_in(self, subject: Subject = ANNA, **about: Any) -> tuple[str, Credential]:
        """Return the cookie of a new sign-in, and the sign-in."""
        return self._cookie(CredentialKind.SIGN_IN, subject, **about)

    def enter(
        self, subject: Subject = ANNA, host: str = HOST, **about: Any
    ) -> tuple[str, Credential]:
        """Return the cookie of a new pass, and the pass."""
        return self._cookie(CredentialKind.PASS, subject, host=host, **about)

    def token(self, name: str = "frame", **about: Any) -> tuple[str, Credential]:
        """Return the secret of a new machine token, and the token."""
        secret = new_secret(MACHINE)
        subject = Subject(kind=SubjectKind.MACHINE, id=f"machine:{name}", name=name)
        return secret, self._add(CredentialKind.TOKEN, subject, secret, **about)

    def _cookie(
        self, kind: CredentialKind, subject: Subject, **about: Any
    ) -> tuple[str, Credential]:
        value = new_cookie()
        return f"Cookie: a=b; __Host-0trust={value}", self._add(kind, subject, value, **about)

    def _add(
        self, kind: CredentialKind, subject: Subject, secret: str, known: bool = True, **about: Any
    ) -> Credential:
        """Make a credential; without `known` only another server knows it."""
        about.setdefault("ends_at", time() + 3600)
        about.setdefault("seen_at", time())
        number = str(sum(1 for _ in self.state.index.all()) + 1)
        credential = Credential(
            kind, number, digest=digest_of(secret.encode()), subject=subject, **about
        )
        if known:
            self.state.index.add(credential)
        return credential


def access_section(*rules: dict[str, Any], **access: Any) -> Access:
    """Return a section `access` with these rules."""
    return Access.model_validate(
        {"auth_host": AUTH_HOST, "rules": [{"hosts": [HOST], **rule} for rule in rules], **access}
    )
