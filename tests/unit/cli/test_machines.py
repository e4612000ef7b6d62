"""Tokens of machines, from the command line."""

import json

import pytest

from tests.support.access_parts import StandingParts
from tests.support.identities import DirectoryServer
from tests.unit.cli.conftest import ACCESS, Ask
from zerotrust.access.secret_format import MACHINE, is_secret
from zerotrust.model.access import Access

pytestmark = pytest.mark.usefixtures("with_access")


def test_the_secret_alone_goes_to_stdout(ask: Ask) -> None:
    code, out, err = ask("machine", "create", "frame")
    assert code == 0
    assert is_secret(out.strip(), MACHINE)
    assert out.count("\n") == 1
    assert out.strip() not in err
    assert err == (
        "token of machine frame, valid without end; it is shown once. Use it as TOKEN in:\n"
        '  curl -H "X-0Trust-Token: TOKEN" https://photos.example.com/\n'
    )


def test_a_token_for_some_host_names_and_some_time(ask: Ask) -> None:
    code, out, err = ask(
        "machine", "create", "ci-1", "--host", "*.lab.example.com", "--for", "90d", "--json"
    )
    made = json.loads(out)
    assert (code, err, made["hosts"]) == (0, "", ["*.lab.example.com"])
    assert "no rule allows this machine yet" in made["warnings"][0]
    _, _, err = ask("machine", "create", "ci-2", "--host", "*.lab.example.com", "--for", "1h")
    assert err.startswith("warning: no rule allows this machine yet")
    assert "valid at *.lab.example.com until 2027-01-15 09:00 UTC" in err
    assert "https://HOST/" in err


def test_a_token_for_the_admin_api(ask: Ask, server: DirectoryServer) -> None:
    _, _, err = ask("machine", "create", "backup", "--admin")
    assert err.startswith("warning: the server's file names no access.admin_host")
    made_for = {**ACCESS, "admin_host": "admin.example.com", "admins": [{"group": "family"}]}
    server.access = StandingParts(server.database, Access.model_validate(made_for))
    _, _, err = ask("machine", "create", "mail", "--admin", "--host", "photos.example.com")
    assert err.startswith("warning: the token is not good for admin.example.com")
    for name, host in (("x", ()), ("y", ("--host", "*.example.com"))):
        _, _, err = ask("machine", "create", name, "--admin", *host)
        assert "warning" not in err
        assert "https://admin.example.com/" in err
    _, _, err = ask("machine", "rotate", "x")
    assert "warning" not in err
    ask("machine", "create", "frame")
    shown = {line.split("  ")[0] for line in ask("machine", "list")[1].splitlines()[1:]}
    assert shown == {"backup (admin)", "mail (admin)", "x (admin)", "y (admin)", "frame"}
    records = json.loads(ask("audit", "list", "--json")[1])["records"]
    details = {one["details"]["name"]: one["details"].get("admin") for one in records}
    assert (details["x"], details["frame"]) == (True, None)


def test_tokens_are_rotated_listed_and_revoked(ask: Ask) -> None:
    assert ask("machine", "list")[1] == "no machines\n"
    first = ask("machine", "create", "frame")[1]
    code, second, err = ask("machine", "rotate", "frame", "--keep", "2h")
    assert code == 0
    assert first != second
    assert "(the former token ends in 2h)" in err
    out = ask("machine", "list")[1]
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["frame", "frame"]
    assert "2027-01-15 10:00" in out
    assert "never" in out
    assert first.strip() not in out
    assert ask("machine", "revoke", "frame")[1] == "2 tokens of machine frame revoked\n"
    assert ask("machine", "revoke", "frame")[0] == 1
    assert json.loads(ask("machine", "list", "--json")[1]) == {"tokens": []}


def test_a_duration_that_cannot_be(ask: Ask) -> None:
    code, _, err = ask("machine", "create", "frame", "--for", "5x")
    assert code == 2
    assert 'lifetime: invalid duration "5x"' in err
