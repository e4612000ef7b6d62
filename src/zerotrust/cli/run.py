"""`0trust server run` and `0trust agent run`: read the file, set up the logs, start the loop.

The options beside `--config` are those of the original program; each wins over the file.
"""

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zerotrust.cli.options import AsJson

if TYPE_CHECKING:
    from zerotrust.config.diagnostics import Problem
    from zerotrust.model.logging import Logging

server = typer.Typer(no_args_is_help=True, help="The public end: Caddy's upstream.")
agent = typer.Typer(no_args_is_help=True, help="The private end: dials out, forwards to the backends.")

Level = Annotated[str | None, typer.Option("--log-level", help="debug, info, warn, error or fatal.")]
Cert = Annotated[Path | None, typer.Option("--cert", help="Own certificate.")]
Key = Annotated[Path | None, typer.Option("--key", help="Own private key.")]
Authority = Annotated[Path | None, typer.Option("--ca", help="Certificate of the authority.")]


@server.callback()
def server_group() -> None:
    """The public end: Caddy's upstream."""


@agent.callback()
def agent_group() -> None:
    """The private end: dials out, forwards to the backends."""


@server.command("run")
def run_server(
    *,
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = Path(
        "/config/server.yaml"
    ),
    listen: Annotated[str | None, typer.Option("--listen", help="Where agents connect.")] = None,
    api: Annotated[str | None, typer.Option("--api", help="Where Caddy hands requests over.")] = None,
    cert: Cert = None,
    key: Key = None,
    ca: Authority = None,
    log_level: Level = None,
) -> None:
    """Run the server; it reads its file again when that changes, and on SIGHUP."""
    _wait_with_reloading()
    from zerotrust.config.load import load_server
    from zerotrust.net.loop import run
    from zerotrust.server.app import serve

    overrides = _given(
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
    _prepare(loaded.config.logging, loaded.warnings)
    run(serve(loaded, lambda _last: load_server(config, overrides=overrides)))


@agent.command("run")
def run_agent(
    *,
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = Path(
        "/config/agent.yaml"
    ),
    agent_id: Annotated[str | None, typer.Option("--id", help="The agent's id.")] = None,
    address: Annotated[str | None, typer.Option("--server", help="Where the server is, host:port.")] = None,
    cert: Cert = None,
    key: Key = None,
    ca: Authority = None,
    log_level: Level = None,
) -> None:
    """Run the agent; it reads its file again when that changes, and on SIGHUP."""
    _wait_with_reloading()
    from zerotrust.agent.app import serve
    from zerotrust.config.load import load_agent, reload_agent
    from zerotrust.net.loop import run

    overrides = _given(
        {
            "agent.id": agent_id,
            "server.address": address,
            "server.cert": cert,
            "server.key": key,
            "server.ca_cert": ca,
            "logging.level": log_level,
        }
    )
    loaded = load_agent(config, overrides=overrides)
    _prepare(loaded.config.logging, loaded.warnings)
    run(serve(loaded, lambda last: reload_agent(config, last, overrides=overrides)))


RunningAgent = Annotated[Path, typer.Option("--config", "-c", help="The configuration file of the running agent.")]


@agent.command("status")
def agent_status(*, config: RunningAgent = Path("/config/agent.yaml"), as_json: AsJson = False) -> None:
    """Show what the agent that runs with this file does: sessions, services, backends; status 1 if not connected."""
    import asyncio

    from zerotrust.agent.control_socket import control_path, request_status
    from zerotrust.cli.tables import show, show_json

    found = asyncio.run(request_status(control_path(config)))
    connected = any(session.connected for session in found.sessions)
    if as_json:
        show_json(found)
    else:
        typer.echo(f"{found.agent}: {'connected' if connected else 'not connected'}, version {found.software}")
        sessions = (
            (one.id, one.server if one.connected else f"{one.server} (lost, dialling)", one.streams)
            for one in found.sessions
        )
        show(("SESSION", "SERVER", "STREAMS"), sessions, none="no session with the server")
        rows = (
            (
                service.id,
                ", ".join(service.hosts),
                one.address,
                one.state,
                "-" if one.requests is None else one.requests,
            )
            for service in found.services
            for one in service.upstreams
        )
        show(("SERVICE", "HOSTS", "BACKEND", "STATE", "REQUESTS"), rows, none="no services")
    if not connected:
        raise typer.Exit(1)


@agent.command("drain")
def drain_agent(*, config: RunningAgent = Path("/config/agent.yaml")) -> None:
    """End the agent that runs with this file, without a failed request; returns when it has ended."""
    import asyncio

    from zerotrust.agent.control_socket import control_path, request_drain

    asyncio.run(request_drain(control_path(config)))
    typer.echo("the agent has drained and ended")


def _wait_with_reloading() -> None:
    # Until somebody listens for it, "read the file again" must not mean "die": the file is about to be read anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _given(options: dict[str, str | Path | None]) -> dict[str, str]:
    """The options that were used; file names relative to here, not to the configuration file."""
    return {
        key: str(value.absolute()) if isinstance(value, Path) else value
        for key, value in options.items()
        if value is not None
    }


def _prepare(logging: "Logging", warnings: Iterable["Problem"]) -> None:
    from zerotrust.telemetry import logs

    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    logs.configure(logging)
