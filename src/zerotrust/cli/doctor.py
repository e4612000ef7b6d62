"""`0trust doctor`: find what is wrong with a set-up, or follow one URL hop by hop."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from zerotrust.cli.agent import AGENT_FILE
from zerotrust.cli.options import SERVER_FILE, AsJson, Socket

if TYPE_CHECKING:
    from zerotrust.doctor.server_address import ServerWay
    from zerotrust.model.agent import AgentConfig
    from zerotrust.model.doctor import DoctorFacts, Examination, Trace
    from zerotrust.model.server import ServerConfig
    from zerotrust.model.status import AgentStatus

WELL: Final = 0
WARNINGS: Final = 1
BROKEN: Final = 2

_MARKS: Final = {"passed": "ok", "ended": "ENDS", "unknown": "-"}


def doctor(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Follow this address only, hop by hop."),
    ] = None,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="The file of a server or an agent (default: that of this machine).",
        ),
    ] = None,
    socket: Socket = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Show the token of a machine or app in this file, with a URL.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong, or follow one URL.

    It reads the file of a server or an agent, asks the running process, and tries everything out:
    DNS, ports, clocks, certificates, Caddy, backends and identity providers. Run it on both
    machines: the agent sees the server from outside. With a URL, it follows a request through all
    hops, and says at which it ends.

    Exit status 0 if all is well, 1 with warnings, 2 if something is broken.
    """
    from zerotrust.errors import ZeroTrustError

    file = config or next(_files_of_this_machine(), None)
    try:
        if url is not None:
            code = _follow(url, file, socket, token_file, as_json=as_json)
        elif file is not None:
            code = _examine(file, socket, as_json=as_json)
        else:
            raise typer.BadParameter(
                "found no file of a server or an agent here: name it with --config, or give a URL"
            )
    except ZeroTrustError as error:
        # Status 1 stands for warnings here.
        typer.echo(f"error: {error}", err=True)
        code = BROKEN
    raise typer.Exit(code)


def _files_of_this_machine() -> Iterator[Path]:
    """Yield the configuration files in the usual places."""
    from zerotrust.cli.systemd import AGENT, SERVER

    usual = (SERVER_FILE, AGENT_FILE, Path(SERVER_FILE.name), Path(AGENT_FILE.name))
    for file in (*usual, SERVER.config, AGENT.config):
        if os.access(file, os.F_OK):
            yield file


# ---- a file


def _examine(file: Path, socket: Path | None, *, as_json: bool) -> int:
    """Print all findings about a file; return the exit status."""
    from zerotrust.cli.tables import show_json

    found = _examination(file, socket)
    if as_json:
        show_json(found)
    else:
        _print(found)
    levels = {finding.level for finding in found.findings}
    return BROKEN if "broken" in levels else WARNINGS if levels else WELL


def _examination(file: Path, socket: Path | None) -> "Examination":
    from zerotrust.config.load import examine, load_agent, load_server
    from zerotrust.doctor.agent_checks import agent_hosts
    from zerotrust.doctor.examination import findings
    from zerotrust.doctor.server_checks import server_hosts
    from zerotrust.model.doctor import Examination
    from zerotrust.net.loop import run_command

    kind, source = examine(file)
    if kind is None or source.errors:
        return _unusable(file, kind or "server", [str(one) for one in source.errors])
    if kind == "server":
        server = load_server(file).config
        facts = _facts(server, socket)
        found = run_command(findings(server, facts=facts))
        count = len(server_hosts(server, facts))
    else:
        agent = load_agent(file).config
        status, ways = _status(file), _ways(agent)
        found = run_command(findings(agent, status=status, ways=ways))
        count = len(agent_hosts(agent.services, status, https_port=443))
    return Examination(file=str(file), kind=kind, hosts=count, findings=found)


def _unusable(file: Path, kind: str, errors: list[str]) -> "Examination":
    from zerotrust.model.doctor import Examination

    found = [
        {
            "check": "file.error",
            "level": "broken",
            "subject": str(file),
            "what": error,
            "fix": f"0trust config check {file} explains every key",
        }
        for error in errors
    ]
    return Examination.model_validate(
        {"file": str(file), "kind": kind, "hosts": 0, "findings": found}
    )


def _facts(config: "ServerConfig", socket: Path | None) -> "DoctorFacts | None":
    """Return the facts about the running server; None if none runs.

    Raises:
        CommandError: this user may not ask it, or it does not answer.
    """
    from zerotrust.cli.admin_client import AdminClient
    from zerotrust.errors import CommandError
    from zerotrust.model.doctor import DoctorFacts

    path = socket or Path(config.admin_socket)
    try:
        client = AdminClient(path, start="0trust server run", timeout=10.0)
    except CommandError as error:
        if isinstance(error.__cause__, PermissionError):
            raise
        return None
    return client.get("/v1/doctor", DoctorFacts)


def _status(file: Path) -> "AgentStatus | None":
    """Return the status of the running agent; None if none runs with this file."""
    from zerotrust.agent.control_socket import control_path, request_status
    from zerotrust.errors import SetupError

    try:
        return asyncio.run(request_status(control_path(file)))
    except SetupError as error:
        if isinstance(error.__cause__, PermissionError):
            raise
        return None


def _ways(config: "AgentConfig") -> "list[ServerWay]":
    from zerotrust.agent.proxies import Proxies
    from zerotrust.agent.server_location import ServerLocation
    from zerotrust.doctor.server_address import ServerWay

    proxies = Proxies.of(config.server, os.environ)
    return [
        ServerWay(
            host=one.host,
            port=one.port,
            server_name=one.server_name,
            web_host=one.web_server.host,
            web_port=one.web_server.port,
            web_name=one.web_server.name,
            proxied=proxies.choose(one.host, one.port) is not None,
            transport=config.server.transport,
        )
        for one in ServerLocation.all_of(config.server)
    ]


def _print(found: "Examination") -> None:
    """Print each finding as one line, and a line at the end with their number."""
    from zerotrust.cli.tables import counted
    from zerotrust.tunnel.binary import printable

    for finding in found.findings:
        typer.echo(f"{finding.level}: {printable(str(finding))}")
    broken = sum(finding.level == "broken" for finding in found.findings)
    warnings = len(found.findings) - broken
    hosts = counted(found.hosts, "host name")
    if not found.findings:
        typer.echo(f"{found.file}: all is well with this {found.kind} and its {hosts}")
        return
    parts = [f"{broken} broken"] * bool(broken)
    parts += [counted(warnings, "warning")] * bool(warnings)
    typer.echo(f"{found.file}: {', '.join(parts)}")


# ---- a URL


def _follow(
    url: str, file: Path | None, socket: Path | None, token_file: Path | None, *, as_json: bool
) -> int:
    """Print the trace of a URL; return the exit status."""
    from zerotrust.cli.tables import show_json
    from zerotrust.doctor.url_trace import parse_url, trace
    from zerotrust.net.loop import run_command

    asked = parse_url(url)
    facts, roots = _known(file, socket)
    token = "" if token_file is None else _token(token_file)
    found = run_command(trace(asked, facts=facts, roots=roots, token=token))
    if as_json:
        show_json(found)
    else:
        _print_trace(found)
    if found.ends_at is None:
        return WELL
    return WARNINGS if found.ends_at in ("policy", "upgrade") else BROKEN


def _known(file: Path | None, socket: Path | None) -> "tuple[DoctorFacts | None, list[bytes]]":
    """Return what the file of this machine says: facts of its server, and the roots.

    A URL can be followed without a file, so a file that cannot be used is no error.
    """
    from zerotrust.config.load import examine, load_agent, load_server
    from zerotrust.doctor.tls_files import root_digests
    from zerotrust.errors import CommandError

    kind, source = examine(file) if file is not None else (None, None)
    if file is None or kind is None or source is None or source.errors:
        return None, []
    if kind == "agent":
        return None, root_digests(load_agent(file).config.server.ca_cert)
    config = load_server(file).config
    try:
        facts = _facts(config, socket)
    except CommandError:
        facts = None
    return facts, root_digests(config.server.ca_file)


def _token(file: Path) -> str:
    from zerotrust.errors import CommandError

    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: cannot be read as a token: {error}") from None
    if not text or not text.isprintable() or " " in text:
        raise CommandError(f"{file}: has no token; write its secret on one line")
    return text


def _print_trace(found: "Trace") -> None:
    from zerotrust.tunnel.binary import printable

    for hop in found.hops:
        time = "" if hop.milliseconds is None else f"{hop.milliseconds:.1f} ms"
        line = f"{hop.name:<9} {_MARKS[hop.outcome]:<5} {time:>10}  {hop.seen}"
        typer.echo(printable(line).rstrip())
        if hop.fix:
            typer.echo(f"{'':<28}{printable(hop.fix)}")
    if found.ends_at is None:
        typer.echo(f"{found.url}: reaches its backend")
    else:
        typer.echo(f"{found.url}: ends at {found.ends_at}")
