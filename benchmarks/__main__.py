"""`python -m benchmarks`: the command line of the benchmark (`make bench`)."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def bench(  # noqa: PLR0913 - one parameter is one option
    *,
    only: Annotated[
        str,
        typer.Option("--only", metavar="TEXT", help="Run only workloads whose name contains TEXT."),
    ] = "",
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Number of rounds [5; with --quick: 3].")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", min=0.1, help="Seconds of one measurement [3; with --quick: 0.5]."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run a few workloads, for less than a minute.")
    ] = False,
    growth: Annotated[
        bool, typer.Option("--growth", help="Also measure cost against the number of connections.")
    ] = False,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="Also measure chisel, frp, piko and rathole, as far as they are installed.",
        ),
    ] = False,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="NAME=URL",
            help="Another tunnel to the same backend (may be repeated).",
        ),
    ] = None,
    backend: Annotated[
        int | None,
        typer.Option(
            "--backend",
            metavar="PORT",
            help="Backend of the peers: HTTP on PORT of 127.0.0.1, WebSocket on PORT + 1.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Write the results to DIR.")
    ] = Path("benchmarks/results"),
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            metavar="FILE",
            help="Compare with earlier results; exit status 1 if a ratio fell.",
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=0.0, max=1.0, help="Share by which a ratio may fall."),
    ] = 0.10,
) -> None:
    """Compare 0Trust with Caddy alone in front of the same backend, on this machine."""
    from benchmarks.app import run
    from benchmarks.options import (
        QUICK_ROUNDS,
        QUICK_SECONDS,
        ROUNDS,
        SECONDS,
        Options,
        parse_peers,
    )

    options = Options(
        only=only,
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        seconds=seconds or (QUICK_SECONDS if quick else SECONDS),
        quick=quick,
        growth=growth,
        with_peers=peers,
        peers=parse_peers(peer or [], backend),
        backend=backend,
        out=out,
        check=check,
        tolerance=tolerance,
    )
    raise typer.Exit(run(options))


if __name__ == "__main__":
    from zerotrust.cli.main import status_of

    sys.exit(status_of("benchmarks.__main__", sys.argv[1:], prog_name="python -m benchmarks"))
