"""`0trust bench`: how fast is it, beside Caddy straight to the same backend?"""

import importlib.util
from pathlib import Path
from typing import Annotated, Final

import typer

PACKAGES: Final = ("picows", "hdrh", "psutil")
"""What the optional dependency group `bench` brings."""


def bench(  # noqa: PLR0913 - one parameter is one option
    *,
    only: Annotated[str, typer.Option("--only", metavar="TEXT", help="Workloads whose name has this in it.")] = "",
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="How many rounds [5; quick: 3].")] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, help="How long one measurement lasts [3; quick: 0.5].")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A representative few, in less than a minute.")] = False,
    growth: Annotated[bool, typer.Option("--growth", help="Also how cost grows with the connections.")] = False,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="NAME=URL", help="Another tunnel to the same backend (may be repeated)."),
    ] = None,
    backend: Annotated[
        int | None,
        typer.Option(
            "--backend", metavar="PORT", help="For peers: HTTP is on this port of 127.0.0.1, WebSocket on the next."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results are written.")] = Path(
        "bench/results"
    ),
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Compare with earlier results; exit status 1 if a ratio fell."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, max=1.0, help="Share by which a ratio may fall.")
    ] = 0.10,
) -> None:
    """Measure 0Trust against Caddy straight to the same backend, in turns, on this machine."""
    from zerotrust.errors import BenchError

    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise BenchError("the benchmark needs further packages: pip install '0trust[bench]'")
    from zerotrust.bench.app import run
    from zerotrust.bench.options import QUICK_ROUNDS, QUICK_SECONDS, ROUNDS, SECONDS, Options, parse_peers

    options = Options(
        only=only,
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        seconds=seconds or (QUICK_SECONDS if quick else SECONDS),
        quick=quick,
        growth=growth,
        peers=parse_peers(peer or [], backend),
        backend=backend,
        out=out,
        check=check,
        tolerance=tolerance,
    )
    raise typer.Exit(run(options))
