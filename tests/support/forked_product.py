"""The command `0trust`, and backends, in a process that has imported their modules.

A start takes a second less. Tests of the installation, the demo and the container start the
installed script.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from zerotrust.cli import main

_prctl = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End this child with the test run."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_lock = threading.Lock()
"""Each start of a process asks for the end of all others. If two threads ask for the same process,
one gets 255 as its exit status."""


class ForkedProduct:
    """A running program, with the part of `subprocess.Popen` that `Process` uses."""

    def __init__(self, process: BaseProcess) -> None:
        with _lock:
            process.start()
        self._process = process
        assert process.pid is not None
        self.pid = process.pid

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        with _lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status at the end of the program.

        Raises:
            TimeoutError: it still runs.
        """
        connection.wait([self._process.sentinel], timeout)
        if (code := self.poll()) is None:
            raise TimeoutError
        return code


def start(
    args: Sequence[str],
    *,
    out: Path,
    err: Path,
    env: Mapping[str, str],
    cwd: Path,
    stdin: Path | None = None,
    module: str | None = None,
) -> ForkedProduct:
    """Start `0trust ARGS` in a process group of its own; append its output to two files.

    Args:
        stdin: its standard input; default: empty.
        module: start `python -m MODULE ARGS` instead.
    """
    process = _fork_server().Process(
        target=_become, args=(list(args), out, err, dict(env), cwd, stdin, module), daemon=True
    )
    return ForkedProduct(process)


@cache
def _fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.preloaded_product", __name__])
    return context


def _become(
    args: list[str],
    out: Path,
    err: Path,
    env: dict[str, str],
    cwd: Path,
    stdin: Path | None,
    module: str | None,
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
    sys.argv = [module or "0trust", *args]
    if module is None:
        main.main(args)
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
