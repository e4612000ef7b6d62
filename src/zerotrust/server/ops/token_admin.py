"""Admin API: tokens of machines and apps."""

from zerotrust.model import access_admin as views
from zerotrust.model.admin import NoParameters
from zerotrust.model.base import is_pattern
from zerotrust.server.access.access_tokens import IssuedAccessToken
from zerotrust.server.ops import access_views
from zerotrust.server.ops.access_advice import (
    admin_token_warnings,
    example_host,
    is_public,
    machine_warnings,
    token_hosts,
)
from zerotrust.server.ops.access_parts import AccessEndpoints


class TokenAdmin(AccessEndpoints):
    """Answers commands about tokens of machines and apps."""

    async def machines(self, _asked: NoParameters, _actor: str) -> views.AccessTokenList:
        """Return the tokens of machines."""
        return await self._listed("machine", None)

    async def apps(self, asked: views.UserFilter, _actor: str) -> views.AccessTokenList:
        """Return the tokens of apps."""
        return await self._listed("app", asked.user)

    async def create_machine(
        self, asked: views.CreateMachineRequest, actor: str
    ) -> views.CreatedAccessToken:
        """Create the token of a machine."""
        made = await self.parts.tokens.create_machine(
            asked.name,
            hosts=asked.hosts,
            lifetime=asked.lifetime,
            admin=asked.admin,
            actor=actor,
        )
        return self._created("machine", made, asked.hosts, admin=asked.admin)

    async def create_app(
        self, asked: views.CreateAppRequest, actor: str
    ) -> views.CreatedAccessToken:
        """Create the token of a user's app."""
        user = await self.known_user(asked.user)
        made = await self.parts.tokens.create_app(
            asked.name, user=user.name, hosts=asked.hosts, lifetime=asked.lifetime, actor=actor
        )
        return self._created("app", made, asked.hosts)

    async def rotate_machine(
        self, asked: views.RotateRequest, actor: str
    ) -> views.CreatedAccessToken:
        """Create a second token of a machine."""
        return await self._rotate("machine", asked, actor)

    async def rotate_app(self, asked: views.RotateRequest, actor: str) -> views.CreatedAccessToken:
        """Create a second token of an app."""
        return await self._rotate("app", asked, actor)

    async def revoke_machine(
        self, asked: views.AccessTokenRequest, actor: str
    ) -> views.RevokedAccessTokens:
        """Revoke the tokens of a machine."""
        return await self._revoke("machine", asked.name, actor)

    async def revoke_app(
        self, asked: views.AccessTokenRequest, actor: str
    ) -> views.RevokedAccessTokens:
        """Revoke the tokens of an app."""
        return await self._revoke("app", asked.name, actor)

    async def _listed(self, kind: str, user: str | None) -> views.AccessTokenList:
        parts = self.parts
        owner = None if user is None else (await self.known_user(user)).id
        found = await parts.tokens.listed(kind, user_id=owner)
        return views.AccessTokenList(tokens=[access_views.token(row, name) for row, name in found])

    async def _rotate(
        self, kind: str, asked: views.RotateRequest, actor: str
    ) -> views.CreatedAccessToken:
        tokens = self.parts.tokens
        made = await tokens.rotate(asked.name, kind=kind, keep=asked.keep, actor=actor)
        rows = {row.id: row for row, _ in await tokens.listed(kind)}
        row = rows.get(made.id)
        if row is None:
            return self._created(kind, made, [])
        return self._created(kind, made, list(row.hosts), admin=row.admin)

    async def _revoke(self, kind: str, name: str, actor: str) -> views.RevokedAccessTokens:
        revoked = await self.parts.tokens.revoke(name, kind=kind, actor=actor)
        return views.RevokedAccessTokens(name=name, revoked=revoked)

    def _created(
        self, kind: str, made: IssuedAccessToken, hosts: list[str], *, admin: bool = False
    ) -> views.CreatedAccessToken:
        parts = self.parts
        gates = parts.gates
        warnings = [
            f"{host} is public: it asks for no token"
            for host in hosts
            if not is_pattern(host) and is_public(gates.find(host))
        ]
        access = parts.state.access
        if admin:
            warnings += admin_token_warnings(access, hosts)
        elif kind == "machine":
            warnings += machine_warnings(access, made.name, hosts)
        usable = [*hosts, *token_hosts(access, kind, made.name, hosts)]
        if admin and access.admin_host is not None:
            usable = [access.admin_host]
        return access_views.created_token(made, hosts, example_host(usable), warnings)
