"""Commands of the product, optionally as another user."""

import asyncio
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import forked_product
from tests.support.processes import PRODUCT, ROOT

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
        run = run_product(*args) if uid is None else asyncio.to_thread(_run_as, uid, args)
        done = await run
        assert "Traceback" not in done.err, done.err
        return done


async def run_product(
    *words: str | Path, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> CommandResult:
    """Run `0trust WORDS` to its end; `env` are variables besides those of this process."""
    environment = {**os.environ, **(env or {})}
    return await asyncio.to_thread(_run, [*map(str, words)], stdin, environment, cwd)


def _run(args: list[str], said: str, env: Mapping[str, str], cwd: Path) -> CommandResult:
    with tempfile.TemporaryDirectory() as folder:
        out, err, stdin = (Path(folder, name) for name in ("out", "err", "stdin"))
        stdin.write_text(said)
        process = forked_product.start(args, out=out, err=err, env=env, cwd=cwd, stdin=stdin)
        try:
            code = process.wait(TIMEOUT)
        except TimeoutError:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"{args} takes longer than {TIMEOUT} s") from None
        return CommandResult(code, out.read_text(), err.read_text())


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
