"""`0trust config …`: is this file good?"""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Look at configuration files.")


@app.callback()
def group() -> None:
    """Look at configuration files."""


@app.command()
def check(file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Print every problem of a server's or agent's FILE. Exit status 1 if it cannot be used."""
    from zerotrust.config.load import inspect

    kind, problems = inspect(file)
    for problem in problems:
        typer.echo(f"{problem.severity}: {problem}")
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    counted = ", ".join(_count(n, what) for n, what in ((errors, "error"), (warnings, "warning")) if n)
    if errors:
        typer.echo(f"{file}: {counted}")
        raise typer.Exit(1)
    typer.echo(f"{file}: ok, {kind} configuration, {counted or 'no warnings'}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
