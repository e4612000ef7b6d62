"""`0trust user …` and `0trust group …`: the people who may sign in, and their groups."""

from typing import TYPE_CHECKING, Annotated

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

if TYPE_CHECKING:
    from zerotrust.model import access_admin

users = CommandGroup("Invite, list and disable users. Run these commands on the server's machine.")
groups = CommandGroup(
    "Put users into groups, for rules. Run these commands on the server's machine."
)

UserName = Annotated[str, typer.Argument(metavar="USER", help="The user's name.")]
GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.")]


@users.command()
def invite(
    user: UserName,
    *,
    email: Annotated[
        str | None,
        typer.Option("--email", metavar="ADDRESS", help="Email address; it counts as verified."),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="NAME", help="Group of the user (repeatable)."),
    ] = None,
    sign_in: Annotated[
        bool,
        typer.Option(
            "--sign-in",
            help="Print a link that signs the user in once, without a passkey, for 10 minutes.",
        ),
    ] = False,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Print a link to register a passkey.

    The link is valid once. It is also the way back for users who lost their passkeys. A new link
    replaces the former one; passkeys and sign-ins stay.
    """
    from zerotrust.cli.access_output import show_warnings
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import moment, show_json
    from zerotrust.model import access_admin

    wanted = question(
        access_admin.InviteRequest,
        user=user,
        email=email,
        groups=group or [],
        signs_in=sign_in,
    )
    made = connect(config, socket).post("/v1/users/invite", access_admin.CreatedInvitation, wanted)
    if as_json:
        show_json(made)
        return
    show_warnings(made.warnings)
    typer.echo(
        f"link for {made.user}, valid once and until {moment(made.expires_at)} UTC; open it in"
        f" the browser that {'is signed in' if sign_in else 'gets the passkey'}:",
        err=True,
    )
    typer.echo(made.url)


@users.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List users of file, database and providers."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import show, show_json
    from zerotrust.model import access_admin

    found = connect(config, socket).get("/v1/users", access_admin.UserList)
    if as_json:
        show_json(found)
        return
    rows = (
        (
            one.user,
            one.state,
            ", ".join(one.groups) or "-",
            ", ".join(one.providers) or "-",
            one.passkeys,
            one.sign_ins,
            one.email or "-",
            one.source,
        )
        for one in found.users
    )
    show(
        ("USER", "STATE", "GROUPS", "PROVIDERS", "PASSKEYS", "SIGN-INS", "EMAIL", "SOURCE"),
        rows,
        none="no users; add one with: 0trust user invite NAME",
    )


@users.command("show")
def show_one(
    user: UserName, *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """Show all details of a user."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import access_admin

    which = question(access_admin.UserRequest, user=user)
    found = connect(config, socket).get("/v1/users/show", access_admin.UserDetails, which)
    if as_json:
        show_json(found)
    else:
        _describe(found)


def _describe(found: "access_admin.UserDetails") -> None:
    from zerotrust.cli.access_output import show_sign_ins, show_tokens
    from zerotrust.cli.tables import moment
    from zerotrust.model import access_admin
    from zerotrust.tunnel.binary import printable

    user = found.user
    typer.echo(f"{user.user}: {user.state}")
    for name, value in (
        ("id", user.id),
        ("name", user.shown_name or "-"),
        ("email", user.email or "-"),
        ("groups", ", ".join(user.groups) or "-"),
        ("providers", ", ".join(user.providers) or "-"),
        ("passkeys", str(user.passkeys)),
        ("source", user.source),
        ("since", f"{moment(user.created_at)} UTC"),
    ):
        typer.echo(f"  {name:<10} {printable(value)}")
    show_sign_ins(found.sessions, none="  no sign-ins")
    if found.apps:
        show_tokens(access_admin.AccessTokenList(tokens=found.apps), owners=False, none="")


@users.command()
def disable(
    user: UserName, *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """Sign a user out everywhere, and keep them out.

    Open WebSockets, downloads and event streams end within a second. The user's apps, share links
    and invitations end, too; they stay so when the user is enabled again.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import counted, show_json
    from zerotrust.model import access_admin

    which = question(access_admin.UserRequest, user=user)
    done = connect(config, socket).post("/v1/users/disable", access_admin.UserResult, which)
    if as_json:
        show_json(done)
        return
    typer.echo(
        f"{done.user} is disabled; {counted(done.sign_ins, 'sign-in')} ended. Undo it with: 0trust"
        f" user enable {done.user}"
    )


@users.command()
def enable(user: UserName, *, config: Config = SERVER_FILE, socket: Socket = None) -> None:
    """Let a disabled user sign in again."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import access_admin

    which = question(access_admin.UserRequest, user=user)
    done = connect(config, socket).post("/v1/users/enable", access_admin.UserResult, which)
    typer.echo(f"{done.user} may sign in again")


@users.command()
def remove(user: UserName, *, config: Config = SERVER_FILE, socket: Socket = None) -> None:
    """Remove a user with passkeys, apps and links.

    Users of the server's file are removed there.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import counted
    from zerotrust.model import access_admin

    which = question(access_admin.UserRequest, user=user)
    done = connect(config, socket).post("/v1/users/remove", access_admin.UserResult, which)
    typer.echo(f"{done.user} is removed; {counted(done.sign_ins, 'sign-in')} ended")


@groups.command("list")
def show_groups(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List groups and their members."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import show, show_json
    from zerotrust.model import access_admin

    found = connect(config, socket).get("/v1/groups", access_admin.GroupList)
    if as_json:
        show_json(found)
        return
    rows = (
        (one.group, ", ".join(one.users) or "-", "yes" if one.named else "no")
        for one in found.groups
    )
    show(("GROUP", "USERS", "IN A RULE"), rows, none="no groups")


@groups.command()
def add(
    group: GroupName, user: UserName, *, config: Config = SERVER_FILE, socket: Socket = None
) -> None:
    """Add a user to a group.

    Effective immediately.
    """
    done = _change("/v1/groups/add", group, user, config, socket)
    typer.echo(f"{done.user} is in group {done.group}{'' if done.changed else ' already'}")


@groups.command("remove")
def remove_member(
    group: GroupName, user: UserName, *, config: Config = SERVER_FILE, socket: Socket = None
) -> None:
    """Remove a user from a group.

    Effective immediately: what only this group allowed ends.
    """
    done = _change("/v1/groups/remove", group, user, config, socket)
    typer.echo(
        f"{done.user} is no longer in group {done.group}"
        if done.changed
        else f"{done.user} was not in group {done.group}"
    )


def _change(
    path: str, group: str, user: str, config: Config, socket: Socket
) -> "access_admin.MemberResult":
    from zerotrust.cli.access_output import show_warnings
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import access_admin

    wanted = question(access_admin.MemberRequest, group=group, user=user)
    done = connect(config, socket).post(path, access_admin.MemberResult, wanted)
    show_warnings(done.warnings)
    return done
