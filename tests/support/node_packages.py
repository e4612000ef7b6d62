"""Packages of Node for tests, installed once from the lock file of `tests/support/node`."""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.support.processes import ROOT, Process

PROGRAMS = ROOT / "tests/support/node"
MODULES = ROOT / "build/node"


class NodeServer(Process):
    """A server in Node; entering the context waits until it listens.

    Args:
        authority: root certificate to trust beside those of Node. With it, all host names are at
            127.0.0.1.
    """

    def __init__(
        self,
        folder: Path,
        program: Path,
        port: int,
        *arguments: str,
        authority: Path | None = None,
    ) -> None:
        self._port = port
        local: list[str | Path] = []
        if authority is not None:
            local = ["--require", program.with_name("loopback.js")]
        super().__init__(
            program.stem,
            ["node", *local, program, str(port), *arguments],
            log=folder / f"{program.stem}-{port}.log",
            env=None if authority is None else {"NODE_EXTRA_CA_CERTS": str(authority)},
        )

    async def __aenter__(self) -> "NodeServer":
        since = self.position()
        self.start()
        await self.wait_line(f"listens on 127.0.0.1:{self._port}", since=since)
        return self


def install() -> Path:
    """Install the packages if they are not; return the folder with the programs."""
    for program in ("node", "npm"):
        assert shutil.which(program), f"{program} is missing: install Node.js 20 or newer with npm"
    MODULES.mkdir(parents=True, exist_ok=True)
    with (MODULES / "lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)  # against other workers of this run
        for file in PROGRAMS.iterdir():
            (MODULES / file.name).write_bytes(file.read_bytes())
        lock = hashlib.sha256((PROGRAMS / "package-lock.json").read_bytes()).hexdigest()
        installed = MODULES / "installed"
        if not installed.exists() or installed.read_text() != lock:
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=MODULES, check=True)
            installed.write_text(lock)
    return MODULES
