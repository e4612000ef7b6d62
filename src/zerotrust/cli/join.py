"""`0trust agent join`: from one line to an agent that runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def join(
    line: Annotated[
        str | None,
        typer.Argument(metavar="LINE", help='What 0trust token create printed; "-" reads it from standard input.'),
    ] = None,
    *,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="A file with the line: other users see a command's words.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--dir", help="Where the agent's files are put. [here]")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace certificate and key; an agent.yaml that is there is kept.")
    ] = False,
    install: Annotated[bool, typer.Option("--install", help="Run the agent as a systemd service.")] = False,
    print_unit: Annotated[bool, typer.Option("--print-unit", help="Show the unit of --install, and end.")] = False,
) -> None:
    """Make this machine an agent: a key of its own, a certificate for it, and an agent.yaml to begin with."""
    from zerotrust.agent import systemd

    if print_unit:
        typer.echo(systemd.unit(Path(sys.executable)), nl=False)
        return
    from zerotrust.agent.agent_files import AgentFilesWriter
    from zerotrust.agent.enrollment_client import clocks
    from zerotrust.agent.join import join as ask
    from zerotrust.pki.join_line import parse

    wanted = parse(_text(line, token_file))
    if install and folder is not None:
        raise typer.BadParameter(f"the service has its files in {systemd.FOLDER}", param_hint="--dir")
    unit = systemd.check() if install else None
    with AgentFilesWriter(systemd.FOLDER if install else folder or Path(), force=force) as starter:
        joined = ask(wanted, starter.request)
        fresh = starter.finish(wanted, joined)
    files = starter.files
    typer.echo(
        f"{files.certificate}: certificate of the agent {joined.agent_id}, until {joined.not_after:%Y-%m-%d %H:%M} UTC"
    )
    typer.echo(f"{files.key}: its key, which no other machine has")
    typer.echo(f"{files.root}: certificate of the authority")
    typer.echo(f"{files.config}: {'the configuration, which publishes nothing yet' if fresh else 'kept as it was'}")
    if joined.skew is not None:
        typer.echo(f"warning: {clocks(joined.skew)}", err=True)
    if unit is not None:
        systemd.install(unit)
        typer.echo(f"{systemd.UNIT}: runs now and after each boot; its log: journalctl -u {systemd.NAME}")
    typer.echo(
        f"Next: write what is published into {files.config} (for {', '.join(joined.hosts) or 'what is granted'})"
    )
    if unit is None:
        typer.echo(f"Then: 0trust agent run --config {files.config}")


def _text(line: str | None, file: Path | None) -> str:
    """The join line, from where it is; not more of it than a line can have."""
    from zerotrust.errors import SetupError
    from zerotrust.pki.join_line import MAX_CHARACTERS

    if (line is None) is (file is None):
        raise typer.BadParameter('give the line, "-", or --token-file FILE', param_hint="LINE")
    try:
        if file is not None:
            with file.open() as opened:
                return opened.read(MAX_CHARACTERS + 1)
        return sys.stdin.read(MAX_CHARACTERS + 1) if line == "-" else str(line)
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not text"
        raise SetupError(f"{file or 'standard input'}: cannot read the join line: {reason}") from error
