"""The parts of a server that decide about access, over a real database."""

from zerotrust.access.gate_table import GateTable
from zerotrust.access.secret_format import digest_of, new_cookie
from zerotrust.accounts import sign_ins, users
from zerotrust.db.access_tables import SignInRow
from zerotrust.db.database import Database
from zerotrust.model.access import Access
from zerotrust.model.service_access import ServiceAccess
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.access_tokens import AccessTokens
from zerotrust.server.access.people import People
from zerotrust.server.access.share_links import ShareLinks
from zerotrust.server.access.sign_ins import SignIns

NOW = 1_800_000_000
"""2027-01-15 08:00 UTC."""


class StandingParts:
    """The parts of a server with a section `access`. Its clock stands still."""

    def __init__(self, database: Database, access: Access, *, https_port: int = 443) -> None:
        self.state = AccessState(database, access, clock=lambda: float(NOW))
        self.people = People(self.state)
        self.sign_ins = SignIns(self.state)
        self.tokens = AccessTokens(self.state)
        self.links = ShareLinks(self.state)
        self.gates = GateTable(access)
        self.https_port = https_port
        self.agents: dict[str, tuple[str, ServiceAccess | None]] = {}

    def served_by(self, host: str) -> tuple[str, ServiceAccess | None]:
        return self.agents.get(host, ("", None))


def add_sign_in(database: Database, user: str, *, browser: str = "Firefox") -> int:
    """Add a sign-in of a known user; return its number."""
    with database.transaction() as session:
        row = users.find(session, user)
        assert row is not None, user
        sign_in = SignInRow(
            digest=digest_of(new_cookie().encode()),
            user_id=row.id,
            method="passkey",
            created_at=NOW,
            proven_at=NOW,
            seen_at=NOW + 60,
            ends_at=NOW + 3600,
            client="203.0.113.7",
            browser=browser,
        )
        return sign_ins.begin(session, row, sign_in).number
