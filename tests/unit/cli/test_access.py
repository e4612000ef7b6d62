"""Rules and verdicts, from the command line."""

import json
from typing import cast

import pytest

from tests.support.access_parts import StandingParts
from tests.support.identities import DirectoryServer
from tests.unit.cli.conftest import Ask
from zerotrust.model.service_access import ServiceAccess

pytestmark = pytest.mark.usefixtures("with_access")

ALBUM = "https://photos.example.com/album/7"


def test_host_names_are_listed(ask: Ask) -> None:
    code, out, _ = ask("access", "list")
    assert code == 0
    rows = [line.strip().split(maxsplit=1) for line in out.splitlines()[1:]]
    assert rows[0] == ["photos.example.com", "group family or machine fr*; share links"]
    assert rows[1] == ["party.example.com", "with the PIN"]
    assert out.rstrip().endswith("no one")
    listed = json.loads(ask("access", "list", "--json")[1])
    assert listed["auth_url"] == "https://auth.example.com"


def test_a_verdict_is_explained(ask: Ask) -> None:
    ask("user", "invite", "anna", "--group", "family")
    code, out, _ = ask("access", "explain", ALBUM, "--user", "anna", "--ip", "10.1.2.3")
    assert code == 0
    assert out.splitlines()[0] == "user anna may enter, by rules[0].allow"
    assert "user anna, groups: family" in out
    assert [line.split()[0] for line in out.splitlines() if "rules[0].allow[0]" in line] == ["yes"]


def test_a_missing_address_is_noted(ask: Ask) -> None:
    words = ("access", "explain", "https://lan.example.com/", "--user", "carla")
    assert ask(*words)[2] == "note: no address was given; add --ip ADDRESS\n"
    assert ask(*words, "--ip", "10.1.2.3")[1].startswith("user carla may enter")
    assert ask(*words, "--ip", "192.0.2.1")[2] == ""


def test_the_verdict_of_a_stranger(ask: Ask) -> None:
    out = ask("access", "explain", ALBUM)[1]
    assert out.startswith("a stranger has to sign in, by rules[0].allow\n")
    assert "none: not signed in" in out
    assert "group family (group does not hold)" in out


def test_the_verdict_of_somebody_else(ask: Ask) -> None:
    ask("user", "invite", "eve")
    out = ask("access", "explain", ALBUM, "--user", "eve")[1]
    assert out.startswith("user eve may not enter, by rules[0].allow\n")
    found = json.loads(ask("access", "explain", ALBUM, "--user", "eve", "--json")[1])
    assert (found["verdict"], found["error"]) == ("deny", "")


def test_machines_and_apps(ask: Ask) -> None:
    ask("machine", "create", "frame")
    assert "machine frame may enter" in ask("access", "explain", ALBUM, "--machine", "frame")[1]
    ask("app", "create", "--user", "carla", "--name", "phone")
    out = ask("access", "explain", ALBUM, "--app", "phone")[1]
    assert out.startswith("app phone may enter")
    assert "app phone of user carla" in out


def test_the_agent_may_narrow_what_the_rule_allows(ask: Ask, server: DirectoryServer) -> None:
    words = ("access", "explain", ALBUM, "--user", "carla")
    assert "none serves photos.example.com" in ask(*words)[1]
    parts = cast("StandingParts", server.access)
    parts.agents["photos.example.com"] = ("home", None)
    assert "home serves photos.example.com" in ask(*words)[1]
    narrowing = {"require": [{"signed_in": True}, {"group": "adults"}]}
    parts.agents["photos.example.com"] = ("home", ServiceAccess.model_validate(narrowing))
    out = ask(*words)[1]
    assert out.startswith("user carla may not enter, by home: access.require[1]\n")
    assert [line.split()[0] for line in out.splitlines() if "access.require" in line][1:] == [
        "yes",
        "no",
    ]
    ask("machine", "create", "frame")
    out = ask("access", "explain", ALBUM, "--machine", "frame")[1]
    assert out.startswith("machine frame may not enter, by home: access.require[0]\n")
    narrowing = {"require": [{"path": "/album/*"}]}
    parts.agents["photos.example.com"] = ("home", ServiceAccess.model_validate(narrowing))
    assert ask(*words)[1].startswith("user carla may enter, by rules[0].allow\n")
    out = ask("access", "explain", "https://photos.example.com/album%2f7", "--user", "carla")[1]
    assert out.startswith("user carla gets the error ambiguous_path, by home: access.require[0]\n")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["photos.example.com"], "is no address of a service"),
        ([ALBUM, "--user", "karla"], 'there is no user karla, did you mean "carla"?'),
        ([ALBUM, "--machine", "x"], "there is no machine x; list them with: 0trust machine list"),
        ([ALBUM, "--app", "x"], "there is no app x; list them with: 0trust app list"),
        ([ALBUM, "--user", "carla", "--machine", "x"], "name one of user and machine, not both"),
        ([ALBUM, "--user", "carla", "--provider", "main"], "has not signed in at main yet"),
        ([ALBUM, "--provider", "main"], "a provider needs a user"),
        ([ALBUM, "--ip", "10.1"], '"10.1" is no IP address'),
        (["https://auth.example.com/me"], "has the sign-in pages, which are open to everyone"),
    ],
)
def test_what_cannot_be_explained(ask: Ask, words: list[str], error: str) -> None:
    code, out, err = ask("access", "explain", *words)
    assert (code, out) == (1, "")
    assert error in err
