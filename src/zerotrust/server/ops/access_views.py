"""Views of users, sign-ins, tokens and links for the admin API (model.access_admin)."""

from collections.abc import Iterable, Mapping

from zerotrust.db.access_tables import AccessTokenRow, PinRow, ShareLinkRow, SignInRow
from zerotrust.model import access_admin as views
from zerotrust.server.access.access_tokens import IssuedAccessToken
from zerotrust.server.access.people import UserInfo


def user(info: UserInfo) -> views.UserView:
    """Return the view of a user."""
    return views.UserView(
        id=info.id,
        user=info.name,
        email=info.email,
        shown_name=info.shown_name,
        source="file" if info.in_file else "database",
        state="enabled" if info.disabled_at is None else "disabled",
        groups=sorted(info.groups),
        providers=sorted(info.providers),
        passkeys=info.passkeys,
        sign_ins=info.sign_ins,
        created_at=info.created_at or None,
        disabled_at=info.disabled_at,
    )


def groups(users: Iterable[UserInfo], named: Iterable[str]) -> list[views.GroupView]:
    """Return the views of all groups that have a member or that the configuration names."""
    known = set(named)
    members: dict[str, list[str]] = {name: [] for name in known}
    for one in users:
        for group in one.groups:
            members.setdefault(group, []).append(one.name)
    return [
        views.GroupView(group=name, users=sorted(members[name]), named=name in known)
        for name in sorted(members)
    ]


def sign_in(row: SignInRow, user_name: str) -> views.SignInView:
    """Return the view of a sign-in."""
    return views.SignInView(
        number=row.number,
        user=user_name,
        method=row.method,
        provider=row.provider,
        created_at=row.created_at,
        seen_at=row.seen_at,
        proven_at=row.proven_at,
        ends_at=row.ends_at,
        client=row.client,
        browser=row.browser,
    )


def token(row: AccessTokenRow, owner: str) -> views.AccessTokenView:
    """Return the view of a token.

    Args:
        owner: name of the user of an app; empty for machines.
    """
    return views.AccessTokenView(
        id=row.id,
        name=row.name,
        user=owner or None,
        hosts=list(row.hosts),
        admin=row.admin,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )


def created_token(
    issued: IssuedAccessToken, hosts: Iterable[str], example: str | None, warnings: Iterable[str]
) -> views.CreatedAccessToken:
    """Return the view of a new token, with its secret."""
    return views.CreatedAccessToken(
        id=issued.id,
        name=issued.name,
        secret=issued.secret,
        hosts=list(hosts),
        example=example,
        expires_at=issued.expires_at,
        warnings=list(warnings),
    )


def link(row: ShareLinkRow, names: Mapping[str, str]) -> views.LinkView:
    """Return the view of a share link.

    Args:
        names: names of the users by id.
    """
    return views.LinkView(
        id=row.id,
        host=row.host,
        path=row.path,
        methods=list(row.methods),
        created_by=names.get(row.created_by, row.created_by),
        created_at=row.created_at,
        expires_at=row.expires_at,
        uses_left=row.uses_left,
        pin=row.pin_hash is not None,
    )


def pin(row: PinRow) -> views.PinView:
    """Return the view of a host name with a PIN."""
    return views.PinView(host=row.host, set_at=row.set_at)
