"""`0trust server …`: run, install and watch the public server.

Each option of `run` other than `--config` takes precedence over the file.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zerotrust.cli import startup
from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

if TYPE_CHECKING:
    from zerotrust.config.load import Loaded
    from zerotrust.model.server import ServerConfig

app = CommandGroup("Run the public server.")


@app.command()
def run(
    *,
    config: Annotated[
        Path,
        typer.Option("--config", "-c", metavar="FILE", help="The server's configuration file."),
    ] = SERVER_FILE,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Address for connections of agents."),
    ] = None,
    api: Annotated[
        str | None,
        typer.Option("--api", metavar="HOST:PORT", help="Address for requests from Caddy."),
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
    startup.need("sqlalchemy")
    from zerotrust.config.load import load_server
    from zerotrust.net import loop
    from zerotrust.server.identity.accepted_config import AcceptedConfig
    from zerotrust.server.identity.worker_slot import WorkerSlot

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
    slot = WorkerSlot.of(os.environ)
    accepted = None if slot is None else AcceptedConfig(slot.config_descriptor)

    def read(_last: "ServerConfig | None" = None) -> "Loaded[ServerConfig]":
        if slot is None or accepted is None:
            return load_server(config, overrides=overrides)
        text = accepted.read()
        loaded = load_server(config, overrides=overrides, contents=text.contents)
        found = loaded.config.model_copy(update={"state": text.state})
        return replace(loaded, config=slot.config(found))

    loaded = read()
    if slot is None:
        startup.show_warnings(loaded.warnings)
    else:
        startup.ignore_restart_signal()
    startup.configure_logging(loaded.config.logging)
    if slot is None and loaded.config.server.worker_count > 1:
        from zerotrust.server.supervisor import supervise

        loop.run(supervise(loaded, read, sys.argv[1:]))
        return
    from zerotrust.server.app import serve

    loop.run(serve(loaded, read, slot, accepted))


@app.command()
def status(*, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show whether the server is healthy.

    Exit status 0 if it is, else 1, as the health check of a container needs it.
    """
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    found = connect(config, socket, timeout=10.0).get("/v1/status", admin.ServerStatus)
    if as_json:
        show_json(found)
        return
    issuer = moment(found.issuer_ends_at)
    rows = (
        ("version", found.version),
        ("running since (UTC)", moment(found.started_at)),
        ("database", found.database),
        (
            "issuing certificate ends",
            "no authority: agents cannot join" if found.issuer_ends_at is None else issuer,
        ),
        ("connected agents", found.agents),
        ("sessions", found.sessions),
        ("streams", found.streams),
        *([("workers ready", f"{found.workers_ready} of {found.workers}")] * (found.workers > 1)),
    )
    show(("SERVER", "HEALTHY"), rows, none="")


@app.command()
def members(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List the servers of one database.

    They are those that have `server.member_addr`. A server that was killed is listed for up to
    15 s.
    """
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    found = connect(config, socket).get("/v1/members", admin.MemberList)
    if as_json:
        show_json(found)
        return
    rows = (
        (
            f"{one.id[:8]}{' (this one)' if one.here else ''}",
            one.address,
            one.version,
            moment(one.since),
        )
        for one in found.members
    )
    show(
        ("SERVER", "ADDRESS", "VERSION", "SINCE (UTC)"),
        rows,
        none="no servers: none has server.member_addr",
    )


@app.command()
def install(
    *,
    print_unit: Annotated[
        bool, typer.Option("--print-unit", help="Print the systemd unit and exit.")
    ] = False,
) -> None:
    """Run the server as a systemd service.

    Before, put server.yaml and the certificates that it names into /var/lib/0trust-server: it is
    the only directory that the service can write.
    """
    from zerotrust.cli.systemd import SERVER

    if print_unit:
        typer.echo(SERVER.unit(Path(sys.executable)), nl=False)
        return
    import zerotrust.server.app  # noqa: F401 - the service needs the packages of the server
    from zerotrust.config.load import load_server
    from zerotrust.errors import SetupError

    unit = SERVER.check()
    loaded = load_server(SERVER.config)
    startup.show_warnings(loaded.warnings)
    problems = [
        f"{key}: {path} is outside {SERVER.folder}, the only directory of the service; move it"
        " there"
        for key, path in _private_files(loaded.config)
        if not Path(os.path.normpath(SERVER.folder / path)).is_relative_to(SERVER.folder)
    ]
    if problems:
        raise SetupError("\n".join(problems))
    SERVER.install(unit)
    typer.echo(f"{SERVER.path}: runs now and after each boot; its log: journalctl -u {SERVER.name}")


def _private_files(config: "ServerConfig") -> Iterator[tuple[str, str]]:
    """Yield the key and path of the files that the server writes, or that only it may read."""
    yield "server.cert_file", config.server.cert_file
    yield "server.key_file", config.server.key_file
    yield "state.dir", config.state.dir
    if config.caddy.mode == "managed":
        yield "caddy.config_dir", config.caddy.config_dir
    if config.authority.key_file is not None:
        yield "authority.key_file", config.authority.key_file
