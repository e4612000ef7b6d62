"""Tests of zerotrust.cli.renamed."""

import pytest

from tests.unit.cli.conftest import Ask
from zerotrust.cli.main import status
from zerotrust.cli.renamed import replace_old_spelling


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            "agent list --json",
            "agents list --json",
            "`0trust agent list` is now `0trust agents list`",
        ),
        ("agent show home", "agents show home", "`0trust agent show` is now `0trust agents show`"),
        (
            "agent revoke home",
            "agents revoke home",
            "`0trust agent revoke` is now `0trust agents revoke`",
        ),
        (
            "agent restore home",
            "agents restore home",
            "`0trust agent restore` is now `0trust agents restore`",
        ),
        (
            "token create --agent list",
            "tokens create --agent list",
            "`0trust token` is now `0trust tokens`",
        ),
        ("grant", "grants", "`0trust grant` is now `0trust grants`"),
    ],
)
def test_an_old_spelling_is_replaced(old: str, new: str, named: str) -> None:
    args, warning = replace_old_spelling(old.split())
    assert args == new.split()
    assert warning and warning.startswith(named)


@pytest.mark.parametrize(
    "words", ["", "agent", "agent run", "agents list", "tokens list", "audit list", "--version"]
)
def test_other_commands_are_left_alone(words: str) -> None:
    assert replace_old_spelling(words.split()) == (words.split(), None)


def test_an_old_spelling_works_and_is_warned_about_once_on_stderr(ask: Ask) -> None:
    code, out, err = ask("agent", "list")
    assert (code, out) == (0, "no agents\n")
    assert err.startswith("warning: `0trust agent list` is now `0trust agents list`; ")
    assert err.count("\n") == 1
    assert ask("agents", "list") == (0, "no agents\n", "")


def test_help_does_not_show_old_spellings(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["--help"]) == 0
    assert status(["agent", "--help"]) == 0
    shown = {
        line.split()[0]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("  ") and line.strip()
    }
    assert "tokens" in shown and "drain" in shown
    assert not shown & {"token", "grant", "list", "show", "revoke", "restore"}
