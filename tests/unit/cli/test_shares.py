"""Share links, from the command line."""

import io
import json
import os
import re
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Ask
from zerotrust.access.secret_format import LINK, is_secret

pytestmark = pytest.mark.usefixtures("with_access")

ALBUM = "https://photos.example.com/album/7"


def test_the_link_alone_goes_to_stdout(ask: Ask) -> None:
    code, out, err = ask("share", "create", ALBUM, "--for", "1h")
    assert code == 0
    address, _, secret = out.strip().partition("#")
    assert address == "https://photos.example.com/.0trust/share"
    assert is_secret(secret, LINK)
    assert re.fullmatch(
        r"share link (l_\S+), valid until 2027-01-15 09:00 UTC; take it back with: 0trust share"
        r" revoke \1\n",
        err,
    )
    made = json.loads(ask("share", "create", ALBUM, "--uses", 2, "--method", "get", "--json")[1])
    assert made["id"].startswith("l_")
    links = json.loads(ask("share", "list", "--json")[1])["links"]
    assert sorted(one["methods"] for one in links) == [["GET"], ["GET", "HEAD"]]


def test_links_are_listed_and_revoked(ask: Ask) -> None:
    assert ask("share", "list")[1] == "no share links\n"
    link = json.loads(ask("share", "create", ALBUM, "--json")[1])["id"]
    row = ask("share", "list")[1].splitlines()[-1]
    for said in (link, "photos.example.com/album/7", "GET, HEAD", "no limit", f"uid {os.getuid()}"):
        assert said in row
    assert json.loads(ask("share", "list", "--json")[1])["links"][0]["pin"] is False
    said = ask("share", "revoke", link)[1]
    assert said == f"share link {link} is revoked; 0 browsers lost access\n"
    assert ask("share", "revoke", link)[0] == 1
    link = json.loads(ask("share", "create", ALBUM, "--json")[1])["id"]
    assert json.loads(ask("share", "revoke", link, "--json")[1])["passes"] == 0


def test_a_pin_comes_from_a_file_or_stdin(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pin"
    file.write_text("123456\n")
    assert ask("share", "create", ALBUM, "--pin-file", file)[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("654321\n"))
    assert ask("share", "create", ALBUM, "--pin-file", "-")[0] == 0
    links = json.loads(ask("share", "list", "--json")[1])["links"]
    assert [one["pin"] for one in links] == [True, True]
    code, _, err = ask("share", "create", ALBUM, "--pin-file", tmp_path / "no")
    assert (code, "cannot read the PIN: No such file" in err) == (1, True)
    file.write_bytes(b"\xff\xfe")
    assert "it is not text" in ask("share", "create", ALBUM, "--pin-file", file)[2]
    file.write_text("12345")
    code, _, err = ask("share", "create", ALBUM, "--pin-file", file)
    assert (code, "a PIN has 6 to 32 digits" in err) == (2, True)
    assert "12345" not in err


def test_a_pin_is_prompted_for(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prompt(text: str, **settings: object) -> str:
        asked.append((text, settings["hide_input"], settings["confirmation_prompt"]))
        return "123456"

    monkeypatch.setattr("typer.prompt", prompt)
    assert ask("share", "create", ALBUM, "--pin")[0] == 0
    assert asked == [("PIN", True, True)]


def test_a_host_name_without_links(ask: Ask) -> None:
    code, out, err = ask("share", "create", "https://party.example.com/")
    assert (code, out) == (1, "")
    assert "allows no share links; write links: true into it (hosts: [party.example.com])" in err
