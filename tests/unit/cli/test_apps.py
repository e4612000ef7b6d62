"""Tokens of native apps, from the command line."""

import json

import pytest

from tests.unit.cli.conftest import Ask
from zerotrust.access.secret_format import APP, is_secret

pytestmark = pytest.mark.usefixtures("with_access")


def test_an_app_from_creation_to_revocation(ask: Ask) -> None:
    ask("user", "invite", "anna")
    code, out, err = ask(
        "app", "create", "--user", "anna", "--name", "Anna's phone", "--host", "photos.example.com"
    )
    assert code == 0
    assert is_secret(out.strip(), APP)
    assert err.startswith(
        "token of app Anna's phone of anna, valid at photos.example.com without end"
    )
    assert "password of HTTP Basic authentication" in err
    row = ask("app", "list", "--user", "anna")[1].splitlines()[-1]
    assert row.startswith("Anna's phone  anna  photos.example.com")
    again = json.loads(ask("app", "rotate", "Anna's phone", "--json")[1])
    assert again["secret"] != out.strip()
    assert "Anna's phone" in ask("app", "rotate", "Anna's phone")[2]
    assert ask("app", "revoke", "Anna's phone")[1] == "3 tokens of app Anna's phone revoked\n"
    assert ask("app", "list")[1] == "no apps\n"
    made = json.loads(ask("app", "create", "--user", "anna", "--name", "x", "--json")[1])
    assert made["name"] == "x"
    assert json.loads(ask("app", "revoke", "x", "--json")[1])["revoked"] == 1
    assert json.loads(ask("app", "list", "--json")[1]) == {"tokens": []}


def test_an_app_of_an_unknown_user(ask: Ask) -> None:
    code, out, err = ask("app", "create", "--user", "ana", "--name", "x")
    assert (code, out) == (1, "")
    assert err == "error: there is no user ana; list them with: 0trust user list\n"
