"""Share links, from the command line."""

import io
import json
import os
from pathlib import Path

import pytest

from tests.support.access_double import Memory
from tests.unit.cli.conftest import Ask
from zerotrust.access.secret_format import LINK, is_secret

ALBUM = "https://photos.example.com/album/7"


def test_the_link_alone_goes_to_stdout(ask: Ask, memory: Memory) -> None:
    code, out, err = ask("share", "create", ALBUM, "--for", "1h")
    assert code == 0
    address, _, secret = out.strip().partition("#")
    assert address == "https://photos.example.com/.0trust/share"
    assert is_secret(secret, LINK)
    assert err == (
        "share link l_1, valid until 2027-01-15 09:00 UTC; take it back with: 0trust share revoke"
        " l_1\n"
    )
    made = json.loads(ask("share", "create", ALBUM, "--uses", 2, "--method", "get", "--json")[1])
    assert made["id"] == "l_2"
    assert memory.links[1].methods == ["GET"]


def test_links_are_listed_and_revoked(ask: Ask, memory: Memory) -> None:
    assert ask("share", "list")[1] == "no share links\n"
    ask("share", "create", ALBUM)
    row = ask("share", "list")[1].splitlines()[-1]
    for said in (
        "l_1",
        "photos.example.com/album/7",
        "GET, HEAD",
        "no limit",
        f"uid {os.getuid()}",
    ):
        assert said in row
    assert json.loads(ask("share", "list", "--json")[1])["links"][0]["pin"] is False
    assert ask("share", "revoke", "l_1")[1] == "share link l_1 is revoked; 2 browsers lost access\n"
    assert ask("share", "revoke", "l_1")[0] == 1
    ask("share", "create", ALBUM)
    assert json.loads(ask("share", "revoke", "l_1", "--json")[1])["passes"] == 2


def test_a_pin_comes_from_a_file_or_stdin(
    ask: Ask, memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pin"
    file.write_text("123456\n")
    assert ask("share", "create", ALBUM, "--pin-file", file)[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("654321\n"))
    assert ask("share", "create", ALBUM, "--pin-file", "-")[0] == 0
    assert [row.pin_hash for row in memory.links] == ["hash", "hash"]
    code, _, err = ask("share", "create", ALBUM, "--pin-file", tmp_path / "no")
    assert (code, "cannot read the PIN: No such file" in err) == (1, True)
    file.write_bytes(b"\xff\xfe")
    assert "it is not text" in ask("share", "create", ALBUM, "--pin-file", file)[2]
    file.write_text("12345")
    code, _, err = ask("share", "create", ALBUM, "--pin-file", file)
    assert (code, "a PIN has 6 to 32 digits" in err) == (2, True)
    assert "12345" not in err


def test_a_pin_is_prompted_for(ask: Ask, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prompt(text: str, **settings: object) -> str:
        asked.append((text, settings["hide_input"], settings["confirmation_prompt"]))
        return "123456"

    monkeypatch.setattr("typer.prompt", prompt)
    assert ask("share", "create", ALBUM, "--pin")[0] == 0
    assert asked == [("PIN", True, True)]


def test_a_host_name_without_links(ask: Ask, memory: Memory) -> None:
    code, out, err = ask("share", "create", "https://party.example.com/")
    assert (code, out) == (1, "")
    assert "allows no share links; write links: true into it (hosts: [party.example.com])" in err
