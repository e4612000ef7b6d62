"""All commands of `0trust`, put together. What each needs is imported when it runs: `--help` stays light."""

from typing import Annotated

import typer

from zerotrust import __version__
from zerotrust.cli import agents, audit, ca, caddy, config, grants, join, run, tokens

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Publish private services through one outbound mTLS tunnel, with Caddy at the edge.",
)
run.agent.command("join")(join.join)
app.add_typer(run.server, name="server")
app.add_typer(agents.app, name="agent")
app.add_typer(tokens.app, name="token")
app.add_typer(grants.app, name="grant")
app.add_typer(audit.app, name="audit")
app.add_typer(ca.app, name="ca")
app.add_typer(config.app, name="config")

edge = typer.Typer(no_args_is_help=True, help="The edge: what Caddy is told.")
edge.callback()(lambda: None)
edge.command("render")(caddy.render)
app.add_typer(edge, name="caddy")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"0trust {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version_asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Publish private services through one outbound mTLS tunnel, with Caddy at the edge."""
