"""Users and groups, from the command line."""

import json

import pytest

from tests.unit.cli.conftest import Ask, SignIn
from zerotrust.access.secret_format import INVITATION, SIGN_IN_LINK, is_secret

with_access = pytest.mark.usefixtures("with_access")


@with_access
def test_the_link_alone_goes_to_stdout(ask: Ask) -> None:
    code, out, err = ask("user", "invite", "anna", "--group", "family", "--email", "a@example.com")
    assert code == 0
    address, _, secret = out.strip().partition("#")
    assert address == "https://auth.example.com/invite"
    assert is_secret(secret, INVITATION)
    assert err.startswith("link for anna, valid once and until 2027-01-22 08:00 UTC")
    assert secret not in err
    made = json.loads(ask("user", "invite", "anna", "--json")[1])
    assert made["user"] == "anna"
    assert "a@example.com" in ask("user", "list")[1]


@with_access
def test_a_link_that_signs_in(ask: Ask) -> None:
    code, out, err = ask("user", "invite", "anna", "--sign-in")
    assert code == 0
    address, _, secret = out.strip().partition("#")
    assert address == "https://auth.example.com/link"
    assert is_secret(secret, SIGN_IN_LINK)
    assert err.startswith("link for anna, valid once and until 2027-01-15 08:10 UTC")
    assert "open it in the browser that is signed in:" in err


@with_access
def test_a_group_that_no_rule_names_is_warned_about(ask: Ask) -> None:
    code, _, err = ask("user", "invite", "anna", "--group", "famly")
    assert code == 0
    assert err.startswith('warning: no rule names the group "famly", did you mean "family"?\n')


@with_access
def test_users_are_listed_and_shown(ask: Ask, sign_in: SignIn) -> None:
    ask("user", "invite", "anna", "--group", "family")
    sign_in("anna", browser="\x1b[2Jevil")
    rows = [line.split() for line in ask("user", "list")[1].splitlines()[1:]]
    assert rows == [
        ["anna", "enabled", "family", "-", "0", "1", "-", "database"],
        ["carla", "enabled", "family", "-", "0", "0", "-", "file"],
    ]
    ask("app", "create", "--user", "anna", "--name", "phone")
    code, out, _ = ask("user", "show", "anna")
    assert code == 0
    assert out.startswith("anna: enabled\n  id         u_")
    for said in ("family", "203.0.113.7", "?[2Jevil", "phone", "all that allow it"):
        assert said in out
    assert "\x1b" not in out
    shown = json.loads(ask("user", "show", "anna", "--json")[1])
    assert shown["user"]["user"] == "anna"
    assert "since      -" in ask("user", "show", "carla")[1]
    assert json.loads(ask("user", "list", "--json")[1])["users"][0]["sign_ins"] == 1


@with_access
def test_a_user_is_disabled_enabled_and_removed(ask: Ask, sign_in: SignIn) -> None:
    ask("user", "invite", "anna")
    sign_in("anna")
    sign_in("anna")
    assert ask("user", "disable", "anna") == (
        0,
        "anna is disabled; 2 sign-ins ended. Undo it with: 0trust user enable anna\n",
        "",
    )
    assert json.loads(ask("user", "disable", "anna", "--json")[1])["sign_ins"] == 0
    assert ask("user", "invite", "anna")[2] == (
        "error: anna is disabled; enable the user first: 0trust user enable anna\n"
    )
    assert ask("user", "enable", "anna")[1] == "anna may sign in again\n"
    sign_in("anna")
    assert ask("user", "remove", "anna")[1] == "anna is removed; 1 sign-in ended\n"
    assert ask("user", "show", "anna")[0] == 1
    assert "remove the user there" in ask("user", "remove", "carla")[2]


@with_access
def test_an_unknown_user(ask: Ask) -> None:
    assert ask("user", "disable", "karla") == (
        1,
        "",
        'error: there is no user karla, did you mean "carla"?\n',
    )


@with_access
def test_groups(ask: Ask) -> None:
    ask("user", "invite", "anna")
    assert ask("group", "add", "family", "anna") == (0, "anna is in group family\n", "")
    assert ask("group", "add", "family", "anna")[1] == "anna is in group family already\n"
    assert ask("group", "add", "chess", "anna")[2] == 'warning: no rule names the group "chess"\n'
    rows = [line.split(maxsplit=1) for line in ask("group", "list")[1].splitlines()[1:]]
    assert [row[0] for row in rows] == ["chess", "family"]
    assert "anna, carla  yes" in rows[1][1]
    assert ask("group", "remove", "family", "anna")[1] == "anna is no longer in group family\n"
    assert ask("group", "remove", "family", "anna")[1] == "anna was not in group family\n"
    groups = json.loads(ask("group", "list", "--json")[1])["groups"]
    assert groups[0] == {"group": "chess", "users": ["anna"], "named": False}


@pytest.mark.parametrize(
    "words",
    [
        ("user", "list"),
        ("user", "invite", "anna"),
        ("group", "list"),
        ("session", "list"),
        ("machine", "list"),
        ("app", "list"),
        ("share", "list"),
        ("pin", "list"),
        ("access", "list"),
        ("pair",),
    ],
)
def test_without_the_section_access(ask: Ask, words: tuple[str, ...]) -> None:
    code, out, err = ask(*words)
    assert (code, out) == (1, "")
    assert err.startswith("error: the server's file has no section `access`")
    assert err.count("\n") == 1
