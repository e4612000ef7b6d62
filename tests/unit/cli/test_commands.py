"""Tests of zerotrust.cli.commands: every help text, and shell completion."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from zerotrust.cli.commands import app
from zerotrust.cli.main import status

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
SUMMARY = 45
BANNED = re.compile(
    r"\b(nobody|somebody|whoever|whom|whose|such|so many|the one that|the original|join"
    r" lines?)\b",
    re.IGNORECASE,
)
Place = tuple[str, ...]


def everything(
    command: TyperCommand | TyperGroup, place: Place = ()
) -> Iterator[tuple[Place, TyperCommand | TyperGroup]]:
    yield place, command
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from everything(cast("TyperCommand | TyperGroup", inner), (*place, name))


COMMANDS = dict(everything(cast("TyperGroup", typer.main.get_command(app))))
each_command = pytest.mark.parametrize("place", COMMANDS, ids=" ".join)


def summary(command: TyperCommand | TyperGroup) -> str:
    return str(command.help).strip().partition("\n\n")[0].partition(". ")[0].rstrip(".")


def test_the_commands_are_found() -> None:
    assert len(COMMANDS) > 30
    assert ("agents", "revoke") in COMMANDS and ("ca", "issue", "server") in COMMANDS


@pytest.fixture(scope="module")
def shown() -> dict[Place, str]:
    """The output of `--help` of each command."""
    texts = {}
    for place in COMMANDS:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            assert status([*place, "--help"]) == 0
        texts[place] = output.getvalue()
    return texts


@each_command
def test_everything_has_a_help_text(place: Place) -> None:
    command = COMMANDS[place]
    assert command.help
    assert [one.name for one in command.params if not getattr(one, "help", None)] == []


@each_command
def test_summaries_are_not_cut_off(place: Place, shown: dict[Place, str]) -> None:
    command = COMMANDS[place]
    if place:
        assert len(summary(command)) <= SUMMARY
    assert "..." not in shown[place].partition("  --help ")[2]


@each_command
def test_placeholders_are_names(place: Place, shown: dict[Place, str]) -> None:
    assert not re.findall(r"<[a-z\[\]]+>|[{}]", shown[place])


@each_command
def test_words(place: Place, shown: dict[Place, str]) -> None:
    assert BANNED.findall(shown[place]) == []


@each_command
def test_the_reference_names_every_command(place: Place) -> None:
    if not isinstance(COMMANDS[place], TyperGroup):
        assert re.search(rf"0trust {' '.join(place)}\b", REFERENCE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("ag", ["agent", "agents"]),
        ("pin c", ["clear"]),
        ("agents re", ["restore", "revoke"]),
        ("server run --li", ["--listen"]),
    ],
)
def test_completion(words: str, found: list[str]) -> None:
    ask = {
        "_0TRUST_COMPLETE": "complete_bash",
        "COMP_WORDS": f"0trust {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    done = subprocess.run(
        [sys.executable, "-m", "zerotrust"],
        env={**os.environ, **ask},
        capture_output=True,
        text=True,
        check=False,
    )
    assert sorted(done.stdout.split()) == found, done.stderr
