"""Agents as the server sees them, from the command line."""

import json

from tests.support.identities import HOME, DirectoryServer, home
from tests.unit.cli.conftest import Ask


def test_agents_are_listed(ask: Ask, server: DirectoryServer) -> None:
    assert ask("agents", "list")[1] == "no agents\n"
    server.live.sessions = [HOME, home(generation=4)]
    ask("grants", "add", "work", "a.example")
    rows = [line.split() for line in ask("agents", "list")[1].splitlines()[-2:]]
    assert rows[0] == ["home", "connected", "2", "8", "0", "2030-03-17", "17:46", "-"]
    assert rows[1] == ["work", "away", "0", "0", "1", "-", "-"]
    found = json.loads(ask("agents", "list", "--json")[1])["agents"]
    assert [agent["id"] for agent in found] == ["home", "work"]


def test_an_agent_is_shown(ask: Ask, server: DirectoryServer) -> None:
    server.live.sessions = [home(software="\x1b[2Jevil [bold]x[/bold]")]
    ask("tokens", "create", "--agent", "home", "--host", "a.example")
    ask("grants", "add", "home", "*.b.example")
    ask("agents", "revoke", "home", "--serial", "def", "--reason", "left on a train")
    code, out, _ = ask("agents", "show", "home")
    assert code == 0
    assert out.startswith("home: connected\n")
    for said in (
        "203.0.113.7:4711",
        "?[2Jevil [bold]x[/bold]",
        "*.b.example",
        "left on a train",
        "def",
        "open",
    ):
        assert said in out
    assert "\x1b" not in out
    assert json.loads(ask("agents", "show", "home", "--json")[1])["agent"]["state"] == "connected"
    ask("grants", "add", "work", "a.example")
    ask("grants", "remove", "work", "a.example")
    assert "no sessions\n  no grants\n" in ask("agents", "show", "work")[1]
    code, _, err = ask("agents", "show", "other")
    assert (code, err) == (
        1,
        "error: there is no agent other; list them with: 0trust agents list\n",
    )


def test_revocation_says_what_it_ended(ask: Ask, server: DirectoryServer) -> None:
    server.live.sessions = [HOME, home(generation=4, serial="def", stream_count=1)]
    code, out, _ = ask("agents", "revoke", "home", "--serial", "def")
    assert (code, out) == (
        0,
        "certificate def of home is revoked; 1 session and 1 stream were cut\n",
    )
    assert (
        ask("agents", "revoke", "home")[1] == "home is revoked; 1 session and 4 streams were cut\n"
    )
    assert ask("agents", "revoke", "home")[1] == "home is revoked; it was not connected\n"
    assert json.loads(ask("agents", "revoke", "home", "--json")[1])["sessions"] == 0
    assert server.authorization.refusal("home", "1") is not None
    assert ask("agents", "restore", "home")[1] == "home is no longer revoked\n"
    assert server.authorization.refusal("home", "1") is None
    assert server.authorization.refusal("home", "def") is not None
    assert (
        ask("agents", "restore", "home", "--serial", "def")[1]
        == "certificate def of home is no longer revoked\n"
    )
    ask("agents", "revoke", "home")
    assert "0trust tokens create --agent home" in ask("agents", "restore", "home", "--reissue")[1]
    assert ask("agents", "restore", "home")[0] == 1
    assert ask("agents", "revoke", "other")[0] == 1
