"""`0trust caddy …`: the configuration that Caddy gets."""

import json
from pathlib import Path
from typing import Annotated

import typer

from zerotrust.cli.command_group import CommandGroup

app = CommandGroup("Show the Caddy configuration.")


@app.command()
def render(
    config: Annotated[
        Path,
        typer.Option("--config", "-c", metavar="FILE", help="The server's configuration file."),
    ],
) -> None:
    """Print the Caddy configuration as JSON."""
    from zerotrust.caddy.render import render as render_document
    from zerotrust.config.load import load_server

    typer.echo(json.dumps(render_document(load_server(config).config), indent=2))
