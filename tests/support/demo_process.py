"""`python -m demo` as a process."""

import socket
import sys
from pathlib import Path

from demo.children import MARK
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import eventually


class Demo(Process):
    """The demo on a port of its own; entered, it is ready.

    Args:
        folder: its log, and the folder for temporary files. It needs a short path: Caddy's socket
            is deep below it.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        env = {"ZEROTRUST_DEMO_PORT": str(self.port), "TMPDIR": str(folder)}
        super().__init__("demo", [sys.executable, "-m", "demo"], log=folder / "demo.log", env=env)

    async def __aenter__(self) -> "Demo":
        self.start()
        await self.wait_line(r"Ctrl-C stops everything", timeout=60)
        self.folder = Path((await self.wait_line(r"Configuration and logs: +(\S+)"))[1])
        return self

    @property
    def root(self) -> Path:
        """Caddy's root certificate."""
        return self.folder / "caddy" / "storage" / "pki" / "authorities" / "local" / "root.crt"

    def family(self) -> dict[int, str]:
        """Every process that belongs to it, by its mark, with its command line."""
        mark = f"{MARK}={self.folder}".encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    )
            except OSError:
                continue
        return found

    def member(self, words: str) -> int:
        return next(pid for pid, command in self.family().items() if words in command)

    async def check_gone(self) -> None:
        await eventually(lambda: not self.family(), "all of its processes have ended", 5)
        assert not self.folder.exists()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", self.port)) != 0
