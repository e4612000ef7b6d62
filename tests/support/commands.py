"""Commands of the product, optionally as another user."""

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from tests.support.processes import PRODUCT, ROOT
from zerotrust.cli import main

NOBODY = 65534
TIMEOUT = 30


@dataclass(frozen=True)
class CommandResult:
    """Exit status and output of a command."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self
        return json.loads(self.out)


@dataclass(frozen=True)
class Commands:
    """Run commands against the server with this socket."""

    socket: Path

    async def __call__(self, *words: str | int, uid: int | None = None) -> CommandResult:
        args = [*map(str, words), "--socket", str(self.socket)]
        run = (
            asyncio.to_thread(_run, args) if uid is None else asyncio.to_thread(_run_as, uid, args)
        )
        done = await run
        assert "Traceback" not in done.err, done.err
        return done


def _run(args: list[str]) -> CommandResult:
    """Run a command in a process that has imported the product: half a second less each."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _ready_processes().Process(target=_become, args=(args, out, err))
        process.start()
        process.join(TIMEOUT)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"{args} takes longer than {TIMEOUT} s")
        assert process.exitcode is not None
        return CommandResult(process.exitcode, out.read_text(), err.read_text())


@cache
def _ready_processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "zerotrust.cli.commands",
            "zerotrust.cli.tables",
            "zerotrust.cli.admin_client",
            "zerotrust.model.access_admin",
            "zerotrust.model.admin",
            __name__,
        ]
    )
    return context


def _become(args: list[str], out: Path, err: Path) -> None:
    os.chdir(ROOT)
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        with file.open("wb") as written:
            os.dup2(written.fileno(), stream.fileno())
    main.main(args)


def _run_as(uid: int, args: list[str]) -> CommandResult:
    done = subprocess.run(
        ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", PRODUCT, *args],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)
