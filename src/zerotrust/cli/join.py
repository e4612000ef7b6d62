"""`0trust agent join`: make this machine an agent, by a join token."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

if TYPE_CHECKING:
    from zerotrust.agent.agent_files import AgentFiles
    from zerotrust.agent.join import JoinResult
    from zerotrust.model.agent import ServerAddress
    from zerotrust.model.proxy import Proxy

STDIN: Final = "-"


def join(  # noqa: PLR0913 - one argument for each option
    token: Annotated[
        str | None,
        typer.Argument(
            metavar="TOKEN",
            help='The join token from 0trust tokens create; "-" reads standard input.',
        ),
    ] = None,
    *,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help=(
                "Read the join token from FILE (arguments are visible to other users in the process"
                " list)."
            ),
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Write the agent's files to DIR (default: current directory).",
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            "--proxy",
            metavar="URL",
            help=(
                "Connect through a proxy: http://USER@proxy:3128 or socks5://…; none: no proxy"
                " (default: HTTPS_PROXY, except for the addresses in NO_PROXY)."
            ),
        ),
    ] = None,
    proxy_password_file: Annotated[
        Path | None,
        typer.Option(
            "--proxy-password-file", metavar="FILE", help="Read the proxy's password from FILE."
        ),
    ] = None,
    transport: Annotated[
        Literal["auto", "direct", "websocket"],
        typer.Option(help="Way to the server: see server.transport of the agent's file."),
    ] = "auto",
    websocket_address: Annotated[
        str | None,
        typer.Option(
            "--websocket-address",
            metavar="HOST:PORT",
            help=(
                "Address of the server's public Caddy, for networks that let only port 443 out"
                " (default: the server's host name, port 443)."
            ),
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace an existing certificate and key; agent.yaml is kept."
        ),
    ] = False,
    install: Annotated[
        bool, typer.Option("--install", help="Run the agent as a systemd service.")
    ] = False,
    print_unit: Annotated[
        bool, typer.Option("--print-unit", help="Print the systemd unit of --install and exit.")
    ] = False,
) -> None:
    """Join this machine to a server.

    Creates a key, gets a certificate and writes agent.yaml.
    """
    from zerotrust.cli.systemd import AGENT

    if print_unit:
        typer.echo(AGENT.unit(Path(sys.executable)), nl=False)
        return
    from zerotrust.agent.agent_files import AgentFilesWriter
    from zerotrust.agent.join import join as ask
    from zerotrust.agent.proxies import Proxies
    from zerotrust.pki.join_token import parse

    wanted = parse(_text(token, token_file))
    way = _way(
        proxy=proxy,
        proxy_password_file=proxy_password_file,
        transport=transport,
        websocket_address=websocket_address,
    )
    proxies = Proxies.of(way, os.environ)
    through = proxies.choose(*wanted.address)
    if install and folder is not None:
        raise typer.BadParameter(
            f"the service keeps its files in {AGENT.folder}", param_hint="--dir"
        )
    unit = AGENT.check() if install else None
    with AgentFilesWriter(AGENT.folder if install else folder or Path(), force=force) as writer:
        joined = ask(wanted, writer.request, way, proxies)
        fresh = writer.finish(wanted, joined, through, way=way)
    files = writer.files
    _print_files(files, joined, through, fresh=fresh)
    if unit is not None:
        AGENT.install(unit)
        typer.echo(
            f"{AGENT.path}: runs now and after each boot; its log: journalctl -u {AGENT.name}"
        )
    hosts = ", ".join(joined.hosts) or "host names that are granted to it"
    typer.echo(f"Next: add services to {files.config} (for {hosts})")
    if unit is None:
        typer.echo(f"Then: 0trust agent run --config {files.config}")


def _print_files(
    files: "AgentFiles", joined: "JoinResult", through: "Proxy | None", *, fresh: bool
) -> None:
    """Print the files that were written, and what to check in them.

    Args:
        through: the proxy by which the machine has joined; None without one.
        fresh: `agent.yaml` is new.
    """
    from zerotrust.agent.enrollment_client import clocks

    ends = f"{joined.not_after:%Y-%m-%d %H:%M} UTC"
    typer.echo(f"{files.certificate}: certificate of agent {joined.agent_id}, valid until {ends}")
    typer.echo(f"{files.key}: its private key, which exists only on this machine")
    typer.echo(f"{files.root}: CA certificate")
    typer.echo(
        f"{files.config}:"
        f" {'configuration, without services yet' if fresh else 'configuration, unchanged'}"
    )
    if through is not None:
        typer.echo(
            f"{through}: written to {files.config}, for the agent's connections too"
            if fresh
            else f"warning: joined through {through}; check server.proxy in {files.config}",
            err=not fresh,
        )
    if joined.skew is not None:
        typer.echo(f"warning: {clocks(joined.skew)}", err=True)


def _way(
    *,
    proxy: str | None,
    proxy_password_file: Path | None,
    transport: str,
    websocket_address: str | None,
) -> "ServerAddress":
    """Return the options about the way to the server as the section `server` of an agent's file."""
    from pydantic import ValidationError

    from zerotrust.errors import SetupError
    from zerotrust.model.agent import ServerAddress

    given = {
        "proxy": proxy,
        "proxy_password_file": None if proxy_password_file is None else str(proxy_password_file),
        "transport": transport,
        "websocket_address": websocket_address,
    }
    try:
        way = ServerAddress.model_validate(given)
        if proxy_password_file is None:
            return way
        return way.with_files({str(proxy_password_file): proxy_password_file.read_bytes()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        option = "--websocket-address" if "websocket_address" in first["loc"] else "--proxy"
        raise typer.BadParameter(message, param_hint=option) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SetupError(
            f"{proxy_password_file}: cannot read the proxy's password: {reason}"
        ) from None


def _text(token: str | None, file: Path | None) -> str:
    """Return the join token, and at most one character more than one can have."""
    from zerotrust.errors import SetupError
    from zerotrust.pki.join_token import MAX_CHARACTERS

    if (token is None) is (file is None):
        raise typer.BadParameter(
            'give the join token, "-", or --token-file FILE', param_hint="TOKEN"
        )
    try:
        if file is not None:
            with file.open() as opened:
                return opened.read(MAX_CHARACTERS + 1)
        return sys.stdin.read(MAX_CHARACTERS + 1) if token == STDIN else str(token)
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not text"
        raise SetupError(
            f"{file or 'standard input'}: cannot read the join token: {reason}"
        ) from error
