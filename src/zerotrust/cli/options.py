"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Final

import typer

SERVER_FILE: Final = Path("/config/server.yaml")

Config = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The server's configuration file, which names the admin socket.",
    ),
]
Socket = Annotated[
    Path | None, typer.Option("--socket", metavar="PATH", help="The server's admin socket.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id.")]
Serial = Annotated[
    str | None,
    typer.Option("--serial", metavar="HEX", help="Only the certificate with this serial number."),
]
OfUser = Annotated[
    str | None, typer.Option("--user", metavar="NAME", help="Only those of this user.")
]
