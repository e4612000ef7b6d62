"""`0trust config …`: validate configuration files, and explain their keys."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import AsJson

if TYPE_CHECKING:
    from zerotrust.config.diagnostics import KeyPath, Problem
    from zerotrust.config.document import Source
    from zerotrust.config.key_report import Key

app = CommandGroup("Validate configuration files.")


@app.command()
def check(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The configuration file of a server or agent.")
    ],
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Explain each key: applied, renamed or without effect."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print every problem of a configuration file.

    Exit status 1 if a server or agent could not start with it.
    """
    from zerotrust.config.access_checks import rule_hosts
    from zerotrust.config.check import wildcards
    from zerotrust.config.diagnostics import sort_problems
    from zerotrust.config.key_report import keys
    from zerotrust.config.load import examine

    kind, source = examine(file)
    if kind == "server":
        _warn_of_suffixes(source, [*_grants(source), *rule_hosts(source.data)])
        _warn_of_overlaps(source)
    elif kind == "agent":
        _warn_of_suffixes(source, wildcards(source.data))
    problems = sort_problems(source.problems)
    if as_json:
        typer.echo(
            json.dumps(_record(file, kind, problems, keys(source)), ensure_ascii=False, indent=2)
        )
    else:
        if verbose:
            _table(keys(source))
        _summary(file, kind, problems)
        if kind == "server" and not source.errors:
            _who_may_enter(file)
    if source.errors:
        raise typer.Exit(1)


def _grants(source: "Source") -> "Iterator[tuple[KeyPath, str]]":
    """Yield the patterns that a server's file grants, each with its place."""
    grants = source.data.get("grants")
    for agent, patterns in grants.items() if isinstance(grants, dict) else ():
        for index, pattern in enumerate(patterns if isinstance(patterns, list) else ()):
            if isinstance(pattern, str):
                yield ("grants", agent, index), pattern.lower()


def _warn_of_suffixes(source: "Source", patterns: "Iterable[tuple[KeyPath, str]]") -> None:
    """Warn of wildcards for a public suffix. The programs do not: loading the list takes time."""
    patterns = list(patterns)
    if not patterns:
        return
    from zerotrust.enrollment.public_suffix import warning

    for place, pattern in patterns:
        if text := warning(pattern):
            source.report(place, "warning", text)


def _warn_of_overlaps(source: "Source") -> None:
    """Warn of names that two agents may serve, by the grants in the file alone."""
    from zerotrust.enrollment.grant_table import GrantTable, parse_pattern
    from zerotrust.enrollment.overlaps import text

    places: dict[tuple[str, str], int] = {}
    grants = source.data.get("grants")
    for agent, patterns in grants.items() if isinstance(grants, dict) else ():
        for index, pattern in enumerate(patterns if isinstance(patterns, list) else ()):
            with contextlib.suppress(ValueError):  # the model says what is wrong with it
                places.setdefault((agent, parse_pattern(str(pattern))), index)
    table = GrantTable()
    table.replace("file", places)
    for wide, named in table.overlaps():
        source.report(("grants", named[0], places[named]), "warning", text(wide, named))


def _summary(file: Path, kind: str | None, problems: Sequence["Problem"]) -> None:
    for problem in problems:
        typer.echo(f"{problem.severity}: {problem}")
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    counted = ", ".join(
        _count(n, what) for n, what in ((errors, "error"), (warnings, "warning")) if n
    )
    if errors:
        typer.echo(f"{file}: {counted}")
    else:
        typer.echo(f"{file}: ok, {kind} configuration, {counted or 'no warnings'}")


def _who_may_enter(file: Path) -> None:
    """Print for each host name of a server's file who may enter, if it has a section `access`."""
    from zerotrust.access.rule_words import who_may_enter
    from zerotrust.config.load import load_server

    access = load_server(file).config.access
    for entry in who_may_enter(access) if access is not None else ():
        typer.echo(f"  {entry}")


def _table(keys: Sequence["Key"]) -> None:
    """Print a row for each key: line, key, what becomes of it, and why."""
    width = max((len(key.key) for key in keys), default=0)
    for key in keys:
        typer.echo(f"{key.line:>5}  {key.key:<{width}}  {key.state:<14}  {key.note}".rstrip())
    if keys:
        typer.echo("")


def _record(
    file: Path, kind: str | None, problems: Sequence["Problem"], keys: Sequence["Key"]
) -> dict[str, Any]:
    told = ("severity", "file", "line", "column", "key", "message")
    return {
        "file": str(file),
        "kind": kind,
        "usable": not any(problem.severity == "error" for problem in problems),
        "problems": [{name: getattr(problem, name) for name in told} for problem in problems],
        "keys": [asdict(key) for key in keys],
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
