"""Admin API: users, groups, sessions and pairing."""

from zerotrust.errors import AccessError
from zerotrust.model import access_admin as views
from zerotrust.model.admin import NoParameters
from zerotrust.server.ops import access_views
from zerotrust.server.ops.access_advice import group_warnings, named_groups
from zerotrust.server.ops.access_parts import AccessEndpoints


class UserAdmin(AccessEndpoints):
    """Answers commands about users."""

    async def users(self, _asked: NoParameters, _actor: str) -> views.UserList:
        """Return all users."""
        found = await self.parts.people.users()
        return views.UserList(users=[access_views.user(one) for one in found])

    async def show(self, asked: views.UserRequest, _actor: str) -> views.UserDetails:
        """Return a user with sign-ins and apps."""
        parts = self.parts
        user = await self.known_user(asked.user)
        apps = await parts.tokens.listed("app", user_id=user.id)
        sign_ins = await parts.sign_ins.listed(user.name)
        return views.UserDetails(
            user=access_views.user(user),
            sessions=[access_views.sign_in(row, name) for row, name in sign_ins],
            apps=[access_views.token(row, owner) for row, owner in apps],
        )

    async def invite(self, asked: views.InviteRequest, actor: str) -> views.CreatedInvitation:
        """Invite a user to register a passkey."""
        parts = self.parts
        made = await parts.people.invite(
            asked.user,
            email=asked.email,
            groups=asked.groups,
            actor=actor,
            signs_in=asked.signs_in,
        )
        path = "/link" if asked.signs_in else "/invite"
        warnings = (group_warnings(parts.state.access, group) for group in asked.groups)
        return views.CreatedInvitation(
            user=made.user,
            url=self.url(parts.state.access.auth_host, f"{path}#{made.secret}"),
            expires_at=made.expires_at,
            warnings=[warning for some in warnings for warning in some],
        )

    async def disable(self, asked: views.UserRequest, actor: str) -> views.UserResult:
        """Refuse a user from now on."""
        user = await self.known_user(asked.user)
        ended = await self.parts.people.disable(user.name, actor=actor)
        return views.UserResult(user=user.name, sign_ins=ended)

    async def enable(self, asked: views.UserRequest, actor: str) -> views.UserResult:
        """Undo `disable`."""
        user = await self.known_user(asked.user)
        await self.parts.people.enable(user.name, actor=actor)
        return views.UserResult(user=user.name, sign_ins=0)

    async def remove(self, asked: views.UserRequest, actor: str) -> views.UserResult:
        """Remove a user of the database."""
        user = await self.known_user(asked.user)
        await self.parts.people.remove(user.name, actor=actor)
        return views.UserResult(user=user.name, sign_ins=user.sign_ins)

    async def groups(self, _asked: NoParameters, _actor: str) -> views.GroupList:
        """Return the groups that have members or that rules name."""
        users, named = await self.parts.people.users(), named_groups(self.parts.state.access)
        return views.GroupList(groups=access_views.groups(users, named))

    async def add_member(self, asked: views.MemberRequest, actor: str) -> views.MemberResult:
        """Add a user to a local group."""
        parts = self.parts
        user = await self.known_user(asked.user)
        changed = await parts.people.add_to_group(asked.group, user.name, actor=actor)
        return views.MemberResult(
            group=asked.group,
            user=user.name,
            changed=changed,
            warnings=group_warnings(parts.state.access, asked.group),
        )

    async def remove_member(self, asked: views.MemberRequest, actor: str) -> views.MemberResult:
        """Remove a user from a local group."""
        parts = self.parts
        user = await self.known_user(asked.user)
        changed = await parts.people.remove_from_group(asked.group, user.name, actor=actor)
        return views.MemberResult(group=asked.group, user=user.name, changed=changed)

    async def sessions(self, asked: views.UserFilter, _actor: str) -> views.SignInList:
        """Return the sign-ins in force."""
        parts = self.parts
        user = None if asked.user is None else (await self.known_user(asked.user)).name
        found = await parts.sign_ins.listed(user)
        return views.SignInList(sessions=[access_views.sign_in(row, name) for row, name in found])

    async def end_sessions(self, asked: views.EndSessionRequest, actor: str) -> views.EndedSessions:
        """End one sign-in, or all of a user."""
        parts = self.parts
        match asked.number, asked.user:
            case int(number), None:
                await parts.sign_ins.end(number, actor=actor)
                return views.EndedSessions(ended=1)
            case None, str(name):
                user = await self.known_user(name)
                ended = await parts.sign_ins.end_all(user.name, actor=actor)
                return views.EndedSessions(ended=ended)
        raise AccessError("name either the number of a session or a user")
