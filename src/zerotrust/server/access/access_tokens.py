"""Tokens of machines and native apps."""

from dataclasses import dataclass, field

from zerotrust.db.access_tables import AccessTokenRow
from zerotrust.server.access.access_state import AccessState


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedAccessToken:
    """A new token. `secret` is shown once and stored nowhere."""

    id: str
    name: str
    secret: str = field(repr=False)
    expires_at: int | None


class AccessTokens:
    """Use cases of tokens."""

    def __init__(self, state: AccessState) -> None:
        self._state = state

    async def create_machine(
        self,
        name: str,
        *,
        hosts: list[str],
        lifetime: float | None,
        admin: bool = False,
        actor: str,
    ) -> IssuedAccessToken:
        """Create the token of a machine.

        Args:
            lifetime: seconds; None for no end.
        """
        raise NotImplementedError

    async def create_app(
        self, name: str, *, user: str, hosts: list[str], lifetime: float | None, actor: str
    ) -> IssuedAccessToken:
        """Create the token of a user's app."""
        raise NotImplementedError

    async def rotate(self, name: str, *, kind: str, keep: float, actor: str) -> IssuedAccessToken:
        """Create a second token of a name; the first ends after `keep` seconds."""
        raise NotImplementedError

    async def revoke(self, name: str, *, kind: str, actor: str) -> int:
        """Revoke all tokens of a name; return how many."""
        raise NotImplementedError

    async def listed(
        self, kind: str, *, user_id: str | None = None
    ) -> list[tuple[AccessTokenRow, str]]:
        """Return the tokens of a kind that are not revoked, each with its user's name."""
        raise NotImplementedError
