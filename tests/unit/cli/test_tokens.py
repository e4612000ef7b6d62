"""Join tokens, from the command line to the database and back."""

import json

import pytest

from tests.support.identities import DirectoryServer
from tests.unit.cli.conftest import Ask
from zerotrust.cli.main import status
from zerotrust.pki import join_token
from zerotrust.server.identity.agent_directory import FILE


def test_the_line_alone_goes_to_stdout(ask: Ask) -> None:
    code, out, err = ask(
        "tokens", "create", "--agent", "home", "--host", "a.example", "--host", "*.lab.example"
    )
    assert code == 0
    assert join_token.parse(out).server == "tunnel.example.com:8443"
    assert out.count("\n") == 1
    assert "join token for agent home (a.example, *.lab.example), valid once and until" in err


def test_a_token_as_json(ask: Ask) -> None:
    code, out, err = ask(
        "tokens", "create", "--agent", "home", "--expires", "90s", "--server", "x.example", "--json"
    )
    made = json.loads(out)
    assert (code, made["agent"], made["hosts"], made["server"]) == (0, "home", [], "x.example:8443")
    assert err.startswith("warning: the server's certificate is for ")


def test_a_name_below_a_wildcard_of_another_agent_is_warned_about(
    ask: Ask, server: DirectoryServer
) -> None:
    server.authorization.grants.replace(FILE, [("home", "*.lab.example")])
    code, _, err = ask(
        "tokens", "create", "--agent", "nas", "--host", "a.lab.example", "--host", "b.example"
    )
    assert code == 0
    assert err.startswith(
        'warning: "*.lab.example" is granted to home and "a.lab.example" to nas: both may serve'
    )
    assert err.count("warning: ") == 1


def test_tokens_are_listed_and_taken_back(ask: Ask, server: DirectoryServer) -> None:
    assert ask("tokens", "list")[1] == "no join tokens\n"
    secret = join_token.parse(
        ask("tokens", "create", "--agent", "home", "--host", "a.example")[1]
    ).secret
    assert ask("tokens", "cancel", 1) == (0, "join token 1 for agent home is cancelled\n", "")
    code, out, _ = ask("tokens", "list")
    assert code == 0
    assert [
        word
        for word in out.splitlines()[-1].split()
        if word in ("1", "home", "cancelled", "a.example")
    ] == [
        "1",
        "home",
        "cancelled",
        "a.example",
    ]
    (token,) = json.loads(ask("tokens", "list", "--json")[1])["tokens"]
    assert token["state"] == "cancelled"
    assert secret not in out + json.dumps(token)
    code, out, err = ask("tokens", "cancel", 1)
    assert (code, out, err) == (
        1,
        "",
        "error: there is no open join token 1; list them with: 0trust tokens list\n",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tokens", "create"], "--agent"),
        (["tokens", "create", "--agent", "home", "--expires", "soon"], 'invalid duration "soon"'),
        (["tokens", "cancel", "x"], "NUMBER"),
        (["tokens", "cancel", "--", "-1"], "at least 0"),
    ],
)
def test_a_wrong_command_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(words) == 2
    assert said in capsys.readouterr().err


def test_what_the_server_refuses(ask: Ask, server: DirectoryServer) -> None:
    assert ask("tokens", "create", "--agent", "../x")[0] == 1
    code, out, err = ask("tokens", "create", "--agent", "home", "--host", "https://a.example")
    assert (code, out) == (1, "")
    assert (
        err == 'error: "https://a.example" is a URL; write only the host name, for example'
        " app.example.com\n"
    )
