"""The command `0trust` in a process that has imported the product: a second less for each start.

Tests of the installation, the demo and the container start the installed script.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from zerotrust.cli import main

_prctl = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End this child with the test run."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start(
    args: Sequence[str],
    *,
    out: Path,
    err: Path,
    env: Mapping[str, str],
    cwd: Path,
    stdin: Path | None = None,
) -> BaseProcess:
    """Start `0trust ARGS` in a process group of its own; append its output to two files.

    Without `stdin`, its standard input is empty.
    """
    process = _fork_server().Process(
        target=_become, args=(list(args), out, err, dict(env), cwd, stdin), daemon=True
    )
    process.start()
    return process


@cache
def _fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "zerotrust.server.app",
            "zerotrust.agent.app",
            "zerotrust.agent.join",
            "zerotrust.agent.control_socket",
            "zerotrust.cli.commands",
            "zerotrust.cli.tables",
            "zerotrust.cli.admin_client",
            "zerotrust.model.access_admin",
            "zerotrust.model.admin",
            __name__,
        ]
    )
    return context


def _become(
    args: list[str], out: Path, err: Path, env: dict[str, str], cwd: Path, stdin: Path | None
) -> None:
    os.setsid()
    die_with_parent()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        with file.open("ab") as written:
            os.dup2(written.fileno(), stream.fileno())
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if stdin is not None:
        sys.stdin = stdin.open()
    sys.argv = ["0trust", *args]
    main.main(args)
