"""Stand-ins for people, sign-ins, tokens and links, which keep everything in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from zerotrust.access.gate_table import GateTable
from zerotrust.access.secret_format import APP, INVITATION, LINK, MACHINE, new_secret
from zerotrust.db.access_tables import AccessTokenRow, PinRow, ShareLinkRow, SignInRow
from zerotrust.errors import UserUnknown
from zerotrust.model.access import Access
from zerotrust.server.access.access_tokens import IssuedAccessToken
from zerotrust.server.access.people import IssuedInvitation, UserInfo
from zerotrust.server.access.share_links import IssuedLink
from zerotrust.server.ops.access_parts import AccessParts

NOW = 1_800_000_000


@dataclass
class Memory:
    """All that the stand-ins keep, and the actors of their calls."""

    users: dict[str, UserInfo] = field(default_factory=dict)
    sign_ins: list[tuple[SignInRow, str]] = field(default_factory=list)
    tokens: list[tuple[AccessTokenRow, str]] = field(default_factory=list)
    links: list[ShareLinkRow] = field(default_factory=list)
    pins: dict[str, str] = field(default_factory=dict)
    actors: set[str] = field(default_factory=set)

    def sign_in(self, user: str, *, browser: str = "Firefox") -> int:
        """Add a sign-in of a user; return its number."""
        row = SignInRow(
            digest=b"d",
            user_id=f"u_{user}",
            method="passkey",
            created_at=NOW,
            proven_at=NOW,
            seen_at=NOW + 60,
            ends_at=NOW + 3600,
            client="203.0.113.7",
            browser=browser,
        )
        row.number = len(self.sign_ins) + 1
        self.sign_ins.append((row, user))
        return row.number


class PeopleDouble:
    """Stand-in for server.access.people.People."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def invite(
        self, name: str, *, email: str | None, groups: list[str], actor: str
    ) -> IssuedInvitation:
        self._memory.actors.add(actor)
        self._memory.users.setdefault(
            name,
            UserInfo(
                id=f"u_{name}",
                name=name,
                email=email,
                shown_name="",
                in_file=False,
                groups=tuple(groups),
                providers=(),
                passkeys=0,
                sign_ins=0,
                created_at=NOW,
                disabled_at=None,
            ),
        )
        return IssuedInvitation(user=name, secret=new_secret(INVITATION), expires_at=NOW + 86400)

    async def users(self) -> list[UserInfo]:
        return [
            replace(user, sign_ins=sum(name == user.name for _, name in self._memory.sign_ins))
            for _, user in sorted(self._memory.users.items())
        ]

    async def disable(self, name: str, *, actor: str) -> int:
        self._change(name, disabled_at=NOW)
        return self._end(name)

    async def enable(self, name: str, *, actor: str) -> None:
        self._change(name, disabled_at=None)

    async def remove(self, name: str, *, actor: str) -> None:
        self._end(name)
        del self._memory.users[name]

    async def add_to_group(self, group: str, name: str, *, actor: str) -> bool:
        groups = set(self._memory.users[name].groups)
        self._change(name, groups=(*groups, group))
        return group not in groups

    async def remove_from_group(self, group: str, name: str, *, actor: str) -> bool:
        groups = set(self._memory.users[name].groups)
        self._change(name, groups=tuple(groups - {group}))
        return group in groups

    def _change(self, name: str, **changes: Any) -> None:
        self._memory.users[name] = replace(self._memory.users[name], **changes)

    def _end(self, name: str) -> int:
        before = len(self._memory.sign_ins)
        self._memory.sign_ins = [one for one in self._memory.sign_ins if one[1] != name]
        return before - len(self._memory.sign_ins)


class SignInsDouble:
    """Stand-in for server.access.sign_ins.SignIns."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def listed(self, user: str | None = None) -> list[tuple[SignInRow, str]]:
        return [one for one in reversed(self._memory.sign_ins) if user in (None, one[1])]

    async def end(self, number: int, *, actor: str) -> None:
        if not await self._ended(lambda one: one[0].number == number):
            raise UserUnknown(f"there is no session {number}; list them with: 0trust session list")

    async def end_all(self, user: str, *, actor: str) -> int:
        return await self._ended(lambda one: one[1] == user)

    async def _ended(self, test: Callable[[tuple[SignInRow, str]], bool]) -> int:
        before = self._memory.sign_ins
        self._memory.sign_ins = [one for one in before if not test(one)]
        return len(before) - len(self._memory.sign_ins)


class AccessTokensDouble:
    """Stand-in for server.access.access_tokens.AccessTokens."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def create_machine(
        self, name: str, *, hosts: list[str], lifetime: float | None, actor: str
    ) -> IssuedAccessToken:
        return self._create("machine", name, hosts, lifetime, "")

    async def create_app(
        self, name: str, *, user: str, hosts: list[str], lifetime: float | None, actor: str
    ) -> IssuedAccessToken:
        return self._create("app", name, hosts, lifetime, user)

    async def rotate(self, name: str, *, kind: str, keep: float, actor: str) -> IssuedAccessToken:
        (row, user), *_ = [one for one in self._memory.tokens if one[0].name == name]
        row.expires_at = NOW + int(keep)
        return self._create(kind, name, row.hosts, None, user)

    async def revoke(self, name: str, *, kind: str, actor: str) -> int:
        gone = [one for one in self._memory.tokens if (one[0].name, one[0].kind) == (name, kind)]
        if not gone:
            raise UserUnknown(f'there is no token "{name}"; list them with: 0trust {kind} list')
        self._memory.tokens = [one for one in self._memory.tokens if one not in gone]
        return len(gone)

    async def listed(
        self, kind: str, *, user_id: str | None = None
    ) -> list[tuple[AccessTokenRow, str]]:
        return [
            (row, user)
            for row, user in self._memory.tokens
            if row.kind == kind and user_id in (None, row.user_id)
        ]

    def _create(
        self, kind: str, name: str, hosts: list[str], lifetime: float | None, user: str
    ) -> IssuedAccessToken:
        number = len(self._memory.tokens) + 1
        expires_at = None if lifetime is None else NOW + int(lifetime)
        row = AccessTokenRow(
            id=f"t_{number}",
            digest=b"d",
            kind=kind,
            name=name,
            hosts=hosts,
            created_at=NOW,
            user_id=f"u_{user}" if user else None,
            expires_at=expires_at,
        )
        self._memory.tokens.append((row, user))
        secret = new_secret(MACHINE if kind == "machine" else APP)
        return IssuedAccessToken(id=row.id, name=name, secret=secret, expires_at=expires_at)


class ShareLinksDouble:
    """Stand-in for server.access.share_links.ShareLinks."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def create(
        self,
        url: str,
        *,
        lifetime: float,
        uses: int | None,
        pin: str | None,
        methods: list[str],
        created_by: str,
        actor: str,
    ) -> IssuedLink:
        host, _, path = url.removeprefix("https://").partition("/")
        number = len(self._memory.links) + 1
        row = ShareLinkRow(
            id=f"l_{number}",
            digest=b"d",
            host=host,
            path=f"/{path}",
            methods=methods,
            created_by=created_by,
            created_at=NOW,
            expires_at=NOW + int(lifetime),
            uses_left=uses,
            pin_hash=None if pin is None else "hash",
        )
        self._memory.links.append(row)
        secret = new_secret(LINK)
        return IssuedLink(
            id=row.id, url=f"https://{host}/.0trust/share#{secret}", expires_at=row.expires_at
        )

    async def revoke(self, link_id: str, *, actor: str) -> int:
        if not any(row.id == link_id for row in self._memory.links):
            raise UserUnknown("there is no such link; list them with: 0trust share list")
        self._memory.links = [row for row in self._memory.links if row.id != link_id]
        return 2

    async def listed(self, *, created_by: str | None = None) -> list[ShareLinkRow]:
        return self._memory.links

    async def set_pin(self, host: str, pin: str, *, actor: str) -> None:
        self._memory.pins[host] = pin

    async def clear_pin(self, host: str, *, actor: str) -> bool:
        return self._memory.pins.pop(host, None) is not None

    async def pins(self) -> list[PinRow]:
        return [PinRow(host=host, pin_hash="hash", set_at=NOW) for host in self._memory.pins]


@dataclass(frozen=True)
class StateDouble:
    """Stand-in for server.access.access_state.AccessState."""

    access: Access


def access_double(access: Access, memory: Memory) -> AccessParts:
    """Return the parts of a server with this section `access`."""
    table = GateTable(access)
    return AccessParts(
        state=cast("Any", StateDouble(access)),
        people=cast("Any", PeopleDouble(memory)),
        sign_ins=cast("Any", SignInsDouble(memory)),
        tokens=cast("Any", AccessTokensDouble(memory)),
        links=cast("Any", ShareLinksDouble(memory)),
        gates=lambda: table,
    )
