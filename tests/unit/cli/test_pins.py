"""PINs of host names, from the command line."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Ask

pytestmark = pytest.mark.usefixtures("with_access")


def test_a_pin_is_set_listed_and_cleared(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.write_text("836251\n")
    assert ask("pin", "list")[1] == "no PINs\n"
    assert ask("pin", "set", "party.example.com", "--pin-file", file) == (
        0,
        "the PIN of party.example.com is set\n",
        "",
    )
    _, out, err = ask("pin", "set", "photos.example.com", "--pin-file", file)
    assert out == "the PIN of photos.example.com is set\n"
    assert err.startswith("warning: the rule of photos.example.com asks for no PIN yet")
    rows = [line.split() for line in ask("pin", "list")[1].splitlines()[1:]]
    assert rows[0] == ["party.example.com", "2027-01-15", "08:00"]
    assert len(json.loads(ask("pin", "list", "--json")[1])["pins"]) == 2
    assert ask("pin", "clear", "party.example.com")[1] == (
        "the PIN of party.example.com is cleared\n"
    )
    assert ask("pin", "clear", "party.example.com")[1] == "party.example.com had no PIN\n"


def test_a_pin_is_no_argument(ask: Ask) -> None:
    code, _, err = ask("pin", "set", "party.example.com", "836251")
    assert code == 2
    assert ask("pin", "list")[1] == "no PINs\n"
    assert "unexpected extra argument" in err
