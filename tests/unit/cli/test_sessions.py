"""Sign-ins of users, from the command line."""

import json

import pytest

from tests.unit.cli.conftest import Ask, SignIn
from zerotrust.cli.main import status


@pytest.mark.usefixtures("with_access")
def test_sessions_are_listed_and_ended(ask: Ask, sign_in: SignIn) -> None:
    assert ask("session", "list")[1] == "no sign-ins\n"
    for name in ("anna", "ben"):
        ask("user", "invite", name)
        sign_in(name)
    sign_in("anna")
    rows = [line.split() for line in ask("session", "list")[1].splitlines()[1:]]
    assert [row[:3] for row in rows] == [
        ["3", "anna", "passkey"],
        ["2", "ben", "passkey"],
        ["1", "anna", "passkey"],
    ]
    assert rows[0][-2:] == ["203.0.113.7", "Firefox"]
    sessions = json.loads(ask("session", "list", "--user", "ben", "--json")[1])["sessions"]
    assert [one["user"] for one in sessions] == ["ben"]
    assert ask("session", "end", 2) == (0, "1 sign-in ended\n", "")
    assert ask("session", "end", 2) == (
        1,
        "",
        "error: there is no session 2; list them with: 0trust session list\n",
    )
    assert json.loads(ask("session", "end", "--user", "anna", "--json")[1]) == {"ended": 2}


@pytest.mark.usefixtures("with_access")
def test_texts_of_browsers_cannot_control_the_terminal(ask: Ask, sign_in: SignIn) -> None:
    ask("user", "invite", "anna")
    sign_in("anna", browser="\x1b]0;owned\x07 \u202eevil\u009b2J\r\n[red]x[/red]")
    for words in (("session", "list"), ("session", "list", "--json"), ("audit", "list")):
        out = ask(*words)[1]
        assert out.replace("\n", "").isprintable()
    lines = ask("session", "list")[1].splitlines()
    assert len(lines) == 2 and "[red]x[/red]" in lines[1]


@pytest.mark.parametrize("words", [[], ["1", "--user", "anna"], ["x"]])
def test_a_wrong_command_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["session", "end", *words]) == 2
    assert "NUMBER" in capsys.readouterr().err
