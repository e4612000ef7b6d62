"""Output of commands: tables for people, JSON for programs."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zerotrust.tunnel.binary import printable

_FILE_WIDTH: Final = 10_000
"""Columns if the output is not a terminal, so that each row is one line."""


def show_json(answer: BaseModel) -> None:
    """Print an answer of the server as JSON, in ASCII so that it cannot control the terminal."""
    import json

    typer.echo(json.dumps(answer.model_dump(), indent=2))


def show(columns: Sequence[str], rows: Iterable[Sequence[object]], *, none: str) -> None:
    """Print a table.

    Args:
        none: printed instead if there are no rows.
    """
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # As Text: texts from agents are neither markup nor control characters.
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    if not table.row_count:
        typer.echo(none)
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_FILE_WIDTH)
    console.print(table)


def moment(seconds: int | None) -> str:
    """Return a time in UTC, to the minute."""
    if seconds is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def counted(number: int, what: str) -> str:
    """Return a number with its noun, as in "1 stream" and "2 streams"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
