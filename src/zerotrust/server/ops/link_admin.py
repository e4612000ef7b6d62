"""Admin API: share links, and PINs of host names."""

import re
from typing import Final

from zerotrust.errors import AccessError
from zerotrust.model import access_admin as views
from zerotrust.model.admin import NoParameters
from zerotrust.model.base import CATCH_ALL
from zerotrust.server.ops import access_views
from zerotrust.server.ops.access_advice import is_public, link_warnings, pin_warnings
from zerotrust.server.ops.access_parts import AccessEndpoints
from zerotrust.server.ops.service_url import parse_service_url

MAX_LIFETIME: Final = 30 * views.DAY
DEFAULT_METHODS: Final = ["GET", "HEAD"]

_METHOD: Final = re.compile(r"[A-Z]{1,16}")


class LinkAdmin(AccessEndpoints):
    """Answers commands about share links and PINs."""

    async def links(self, _asked: NoParameters, _actor: str) -> views.LinkList:
        """Return the links in force."""
        names = {user.id: user.name for user in await self.parts.people.users()}
        rows = await self.parts.links.listed()
        return views.LinkList(links=[access_views.link(row, names) for row in rows])

    async def create(self, asked: views.CreateLinkRequest, actor: str) -> views.CreatedLink:
        """Create a link."""
        parts = self.parts
        host = parse_service_url(asked.url).host
        if parts.gates.is_reserved(host):
            raise AccessError(f"{host} has the server's own pages: share a service")
        gate = parts.gates.find(host)
        if gate is None or is_public(gate):
            raise AccessError(f"{host} is public: give its URL away as it is")
        if gate.host_pattern == CATCH_ALL:
            raise AccessError(
                f"no rule names {host}; write one with links: true, for example {{hosts: [{host}],"
                " allow: signed_in, links: true}"
            )
        if not gate.rule.links:
            raise AccessError(
                f"the rule of {host} allows no share links; write links: true into it (hosts:"
                f" [{', '.join(gate.rule.hosts)}])"
            )
        if asked.lifetime > MAX_LIFETIME:
            raise AccessError("a share link is valid for 30 days at most: use --for 30d")
        made = await parts.links.create(
            asked.url,
            lifetime=asked.lifetime,
            uses=asked.uses,
            pin=asked.pin,
            methods=_methods(asked.methods),
            created_by=actor,
            actor=actor,
        )
        url = self.url(host, made.url.removeprefix(f"https://{host}"))
        return views.CreatedLink(
            id=made.id,
            url=url,
            expires_at=made.expires_at,
            warnings=link_warnings(gate.rule, *parts.served_by(host)),
        )

    async def revoke(self, asked: views.LinkRequest, actor: str) -> views.RevokedLink:
        """Revoke a link."""
        passes = await self.parts.links.revoke(asked.id, actor=actor)
        return views.RevokedLink(id=asked.id, passes=passes)

    async def pins(self, _asked: NoParameters, _actor: str) -> views.PinList:
        """Return the host names with a PIN."""
        rows = await self.parts.links.pins()
        return views.PinList(
            pins=[access_views.pin(row) for row in sorted(rows, key=lambda row: row.host)]
        )

    async def set_pin(self, asked: views.SetPinRequest, actor: str) -> views.PinResult:
        """Set the PIN of a host name."""
        parts = self.parts
        if parts.gates.is_reserved(asked.host):
            raise AccessError(f"{asked.host} has the server's own pages: it has no PIN")
        gate = parts.gates.find(asked.host)
        await parts.links.set_pin(asked.host, asked.pin, actor=actor)
        warnings = pin_warnings(gate, asked.host)
        return views.PinResult(host=asked.host, changed=True, warnings=warnings)

    async def clear_pin(self, asked: views.PinRequest, actor: str) -> views.PinResult:
        """Clear the PIN of a host name."""
        changed = await self.parts.links.clear_pin(asked.host, actor=actor)
        return views.PinResult(host=asked.host, changed=changed)


def _methods(names: list[str]) -> list[str]:
    """Raises AccessError."""
    methods = [name.upper() for name in names]
    for method in methods:
        if _METHOD.fullmatch(method) is None:
            raise AccessError(f'"{method[:40]}" is no method: use for example GET or POST')
    return methods or DEFAULT_METHODS
