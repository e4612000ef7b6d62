"""Options that the commands to a running server share."""

from pathlib import Path
from typing import Annotated, Final

import typer

SERVER_FILE: Final = Path("/config/server.yaml")

Config = Annotated[
    Path, typer.Option("--config", "-c", help="The running server's configuration file: it says where the socket is.")
]
Socket = Annotated[Path | None, typer.Option("--socket", help="The running server's admin socket.")]
AsJson = Annotated[bool, typer.Option("--json", help="Say it as one JSON object.")]
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id.")]
Serial = Annotated[str | None, typer.Option("--serial", help="Only the certificate with this serial.")]
