"""`0trust agent …`: run and control the agent on this machine.

Each option of `run` other than `--config` takes precedence over the file.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from zerotrust.cli import startup
from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.join import join
from zerotrust.cli.options import AsJson

if TYPE_CHECKING:
    from zerotrust.model.status import ServiceStatus, SessionStatus

AGENT_FILE: Final = Path("/config/agent.yaml")
RunningAgent = Annotated[
    Path,
    typer.Option(
        "--config", "-c", metavar="FILE", help="The configuration file of the running agent."
    ),
]

app = CommandGroup("Run and control the agent on this machine.")


@app.command()
def run(
    *,
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="The agent's configuration file.")
    ] = AGENT_FILE,
    agent_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The agent's id.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--server", metavar="HOST:PORT", help="Address of the server.")
    ] = None,
    cert: startup.Cert = None,
    key: startup.Key = None,
    ca: startup.Authority = None,
    log_level: startup.Level = None,
) -> None:
    """Run the agent.

    It reloads its configuration file when that changes, and on SIGHUP.
    """
    startup.ignore_reload_signal()
    from zerotrust.agent.app import serve
    from zerotrust.config.load import load_agent, reload_agent
    from zerotrust.net import loop

    overrides = startup.overrides(
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
    startup.show_warnings(loaded.warnings)
    startup.configure_logging(loaded.config.logging)
    loop.run(serve(loaded, lambda last: reload_agent(config, last, overrides=overrides)))


@app.command()
def status(*, config: RunningAgent = AGENT_FILE, as_json: AsJson = False) -> None:
    """Show sessions and services.

    Exit status 0 if the agent is connected to its server, else 1.
    """
    from zerotrust.agent.control_socket import control_path, request_status
    from zerotrust.cli.tables import show, show_json

    found = asyncio.run(request_status(control_path(config)))
    connected = any(session.connected for session in found.sessions)
    if as_json:
        show_json(found)
    else:
        typer.echo(
            f"{found.agent}: {'connected' if connected else 'not connected'}, version"
            f" {found.software}{f', through {found.proxy}' if found.proxy else ''}"
        )
        sessions = (
            (
                one.id,
                f"{one.server}{_remark(one)}",
                one.streams,
            )
            for one in found.sessions
        )
        show(("SESSION", "SERVER", "STREAMS"), sessions, none="no session with the server")
        if found.members:
            members = (
                (one.address, "connected" if one.connected else one.problem or "connecting")
                for one in found.members
            )
            show(("FURTHER SERVER", "STATE"), members, none="")
        rows = (
            (service.id, ", ".join(service.hosts), *backend)
            for service in found.services
            for backend in _backends(service)
        )
        show(("SERVICE", "HOSTS", "BACKEND", "STATE", "REQUESTS"), rows, none="no services")
    if not connected:
        raise typer.Exit(1)


def _backends(service: "ServiceStatus") -> "Iterator[tuple[str, str, int | str]]":
    """Yield address, state and requests of each upstream, or the target of a redirect."""
    if service.redirect_to is not None:
        yield f"redirect to {service.redirect_to}", "-", "-"
    for one in service.upstreams:
        yield one.address, one.state, "-" if one.requests is None else one.requests


@app.command()
def drain(*, config: RunningAgent = AGENT_FILE) -> None:
    """Drain and stop the agent.

    Running requests are completed. Returns when the agent has stopped.
    """
    from zerotrust.agent.control_socket import control_path, request_drain

    asyncio.run(request_drain(control_path(config)))
    typer.echo("the agent has drained and stopped")


app.command()(join)


def _remark(session: "SessionStatus") -> str:
    if not session.connected:
        return " (lost, reconnecting)"
    return " (by WebSocket)" if session.transport == "websocket" else ""
