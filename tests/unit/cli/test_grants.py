"""Grants, from the command line to the running server and back."""

import json

from tests.support.identities import DirectoryServer
from tests.unit.cli.conftest import Ask
from zerotrust.server.identity.agent_directory import DATABASE, FILE


def test_a_grant_for_an_agent_that_is_not_there_yet(ask: Ask, server: DirectoryServer) -> None:
    code, out, err = ask("grants", "add", "home", "A.example", "*.lab.example")
    assert (code, err) == (0, "")
    assert out == "a.example is granted to home\n*.lab.example is granted to home\n"
    assert server.authorization.grants.may_serve("home", "x.lab.example")
    assert ask("grants", "add", "home", "a.example")[1] == "a.example is granted to home already\n"
    assert (
        ask("grants", "remove", "home", "a.example")[1]
        == "a.example is no longer granted to home\n"
    )
    assert not server.authorization.grants.may_serve("home", "a.example")
    code, _, err = ask("grants", "remove", "home", "a.example")
    assert (code, err.startswith("error: a.example is not granted to home")) == (1, True)


def test_what_was_done_before_an_error_stays_and_was_said(
    ask: Ask, server: DirectoryServer
) -> None:
    code, out, err = ask("grants", "add", "home", "a.example", "a:1", "b.example")
    assert (code, out) == (1, "a.example is granted to home\n")
    assert "has a port" in err
    assert server.authorization.grants.of(DATABASE) == {("home", "a.example")}


def test_warnings(ask: Ask, server: DirectoryServer) -> None:
    assert "warning: " in ask("grants", "add", "home", "*.co.uk")[2]
    server.authorization.grants.replace(FILE, [("home", "*.co.uk")])
    code, _, err = ask("grants", "remove", "home", "*.co.uk")
    assert (code, err) == (0, "warning: the server's file still grants it, under grants\n")


def test_a_wildcard_and_a_name_below_it_of_another_agent_are_warned_about(
    ask: Ask, server: DirectoryServer
) -> None:
    server.authorization.grants.replace(FILE, [("home", "*.lab.example")])
    code, out, err = ask("grants", "add", "nas", "a.lab.example", "a.b.lab.example", "lab.example")
    assert (code, out.count("is granted")) == (0, 3)
    assert (
        err
        == 'warning: "*.lab.example" is granted to home and "a.lab.example" to nas: both may serve'
        " a.lab.example; grant it to home by name too if that is meant, else take one of the two"
        " grants back\n"
    )
    assert (
        "to third: both may serve c.lab.example"
        in ask("grants", "add", "third", "c.lab.example")[2]
    )
    assert ask("grants", "add", "home", "a.lab.example")[2] == "", "now they share it on purpose"
    warnings = ask("grants", "add", "fourth", "*.lab.example")[2].splitlines()
    assert [line.partition(": both")[2][:24] for line in warnings] == [
        " may serve a.lab.example",
        " may serve c.lab.example",
    ]


def test_grants_are_listed(ask: Ask, server: DirectoryServer) -> None:
    assert ask("grants", "list")[1] == "no grants\n"
    ask("grants", "add", "home", "a.example")
    server.authorization.grants.replace(FILE, [("work", "b.example")])
    out = ask("grants", "list")[1]
    rows = [line.split()[:3] for line in out.splitlines()[-2:]]
    assert rows == [["home", "a.example", "database"], ["work", "b.example", "file"]]
    found = json.loads(ask("grants", "list", "--agent", "work", "--json")[1])
    assert found == {
        "grants": [{"agent": "work", "host": "b.example", "source": "file", "created_at": None}]
    }
