"""Tokens of machines and native apps."""

from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from zerotrust.accounts import access_tokens, users
from zerotrust.db.access_tables import AccessTokenRow
from zerotrust.errors import AccessError
from zerotrust.server.access.access_state import AccessState


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedAccessToken:
    """A new token. `secret` is shown once and stored nowhere."""

    id: str
    name: str
    secret: str = field(repr=False)
    expires_at: int | None


class AccessTokens:
    """Use cases of tokens.

    The methods raise AccessError for requests that are not possible, UserUnknown for unknown users
    and tokens, and StateError where the database can't be used.
    """

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
        await self._state.make_room()
        return _issued(
            await self._state.run(
                lambda session, now: access_tokens.create(
                    session,
                    "machine",
                    name,
                    hosts=hosts,
                    lifetime=lifetime,
                    user=None,
                    admin=admin,
                    actor=actor,
                    now=now,
                )
            )
        )

    async def create_app(
        self, name: str, *, user: str, hosts: list[str], lifetime: float | None, actor: str
    ) -> IssuedAccessToken:
        """Create the token of a user's app.

        Args:
            user: name of the user.
        """
        await self._state.make_room()

        def work(session: Session, now: int) -> tuple[AccessTokenRow, str]:
            owner = users.known(session, user, self._state.subjects.file, now=now)
            if not self._state.is_active(owner):
                raise AccessError(f"{user} is disabled")
            return access_tokens.create(
                session,
                "app",
                name,
                hosts=hosts,
                lifetime=lifetime,
                user=owner,
                admin=False,
                actor=actor,
                now=now,
            )

        return _issued(await self._state.run(work))

    async def rotate(self, name: str, *, kind: str, keep: float, actor: str) -> IssuedAccessToken:
        """Create a second token of a name; the first ends after `keep` seconds."""
        return _issued(
            await self._state.run(
                lambda session, now: access_tokens.rotate(
                    session, kind, name, keep=keep, actor=actor, now=now
                )
            )
        )

    async def revoke(self, name: str, *, kind: str, actor: str, user_id: str | None = None) -> int:
        """Revoke all tokens of a name; return how many.

        Args:
            user_id: only those of this user.
        """
        return await self._state.run(
            lambda session, now: access_tokens.revoke(
                session, kind, name, user_id=user_id, actor=actor, now=now
            )
        )

    async def listed(
        self, kind: str, *, user_id: str | None = None
    ) -> list[tuple[AccessTokenRow, str]]:
        """Return the tokens of a kind in force, each with its user's name."""
        rows = await self._state.run(
            lambda session, now: access_tokens.in_force(session, kind, user_id=user_id, now=now)
        )
        return [(row, self._state.subjects.name(row.user_id or "")) for row in rows]


def _issued(made: tuple[AccessTokenRow, str]) -> IssuedAccessToken:
    row, secret = made
    return IssuedAccessToken(id=row.id, name=row.name, secret=secret, expires_at=row.expires_at)
