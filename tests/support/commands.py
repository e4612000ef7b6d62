"""Commands of the product, optionally as another user."""

import asyncio
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import PRODUCT, ROOT

NOBODY = 65534


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
        become: list[str | Path] = (
            [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        )
        argv = [*become, PRODUCT, *map(str, words), "--socket", self.socket]
        done = await asyncio.to_thread(
            subprocess.run,
            argv,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return CommandResult(done.returncode, done.stdout, done.stderr)
