"""`0trust server …`: run the public server.

Each option of `run` other than `--config` takes precedence over the file.
"""

from pathlib import Path
from typing import Annotated

import typer

from zerotrust.cli import startup
from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

app = CommandGroup("Run the public server.")


@app.command()
def run(
    *,
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="The server's configuration file.")
    ] = SERVER_FILE,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Address for connections of agents.")
    ] = None,
    api: Annotated[
        str | None, typer.Option("--api", metavar="HOST:PORT", help="Address for requests from Caddy.")
    ] = None,
    cert: startup.Cert = None,
    key: startup.Key = None,
    ca: startup.Authority = None,
    log_level: startup.Level = None,
) -> None:
    """Run the server.

    It reloads its configuration file when that changes, and on SIGHUP.
    """
    startup.ignore_reload_signal()
    from zerotrust.config.load import load_server
    from zerotrust.net import loop
    from zerotrust.server.app import serve

    overrides = startup.overrides(
        {
            "server.listen_addr": listen,
            "api.listen_addr": api,
            "server.cert_file": cert,
            "server.key_file": key,
            "server.ca_file": ca,
            "logging.level": log_level,
        }
    )
    loaded = load_server(config, overrides=overrides)
    startup.show_warnings(loaded.warnings)
    startup.configure_logging(loaded.config.logging)
    loop.run(serve(loaded, lambda _last: load_server(config, overrides=overrides)))


@app.command()
def status(*, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show whether the server is healthy.

    Exit status 0 if it is, else 1, as the health check of a container needs it.
    """
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    found = connect(config, socket, timeout=10.0).get("/v1/status", admin.Status)
    if as_json:
        show_json(found)
        return
    issuer = moment(found.issuer_ends_at)
    rows = (
        ("version", found.version),
        ("running since (UTC)", moment(found.started_at)),
        ("database", found.database),
        ("issuing certificate ends", "no authority: agents cannot join" if found.issuer_ends_at is None else issuer),
        ("connected agents", found.agents),
        ("sessions", found.sessions),
        ("streams", found.streams),
    )
    show(("SERVER", "HEALTHY"), rows, none="")
