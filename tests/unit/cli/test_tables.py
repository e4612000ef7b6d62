"""Tests of the tables that commands print."""

import pytest

from zerotrust.cli.tables import counted, moment, show


def test_a_row_is_one_line_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    show(("A", "B"), [("x" * 300, "y" * 300)], none="nothing")
    assert "x" * 300 in capsys.readouterr().out
    show(("A",), [], none="nothing")
    assert capsys.readouterr().out == "nothing\n"


def test_what_others_wrote_is_shown_as_it_is_and_drives_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(("A",), [("[red]a[/red] :smile: \x1b]0;x\x07 \u202e",)], none="")
    assert capsys.readouterr().out.splitlines()[-1].strip() == "[red]a[/red] :smile: ?]0;x? ?"


def test_times() -> None:
    assert moment(None) == "-"
    assert moment(0) == "1970-01-01 00:00"
    assert moment(10**18) == str(10**18)


def test_numbers() -> None:
    assert [counted(number, "stream") for number in (0, 1, 2)] == [
        "0 streams",
        "1 stream",
        "2 streams",
    ]
