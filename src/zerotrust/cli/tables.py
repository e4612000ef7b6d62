"""What commands print: tables for people, JSON for programs."""

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
"""Columns, where no terminal says otherwise: a row is one line, for grep."""


def show_json(answer: BaseModel) -> None:
    """The answer as the admin channel gives it. In ASCII: nothing in it can drive a terminal."""
    import json

    typer.echo(json.dumps(answer.model_dump(), indent=2))


def show(columns: Sequence[str], rows: Iterable[Sequence[object]], *, none: str) -> None:
    """A table.

    Args:
        none: what is said instead where there are no rows.
    """
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # As Text: what others chose to send is neither markup nor control characters.
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    if not table.row_count:
        typer.echo(none)
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_FILE_WIDTH)
    console.print(table)


def moment(seconds: int | None) -> str:
    """A time, to the minute, UTC."""
    if seconds is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def counted(number: int, what: str) -> str:
    """As in "1 stream" and "2 streams"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
