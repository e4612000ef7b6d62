"""`0trust caddy …`: what the edge is told."""

import json
from pathlib import Path
from typing import Annotated

import typer


def render(
    config: Annotated[Path, typer.Option("--config", "-c", help="The server's configuration file.")],
) -> None:
    """Print the configuration that Caddy gets, as JSON."""
    from zerotrust.caddy.render import render as render_document
    from zerotrust.config.load import load_server

    typer.echo(json.dumps(render_document(load_server(config).config), indent=2))
