"""Runs an example's files, set up as docs/howto/README.md says, with a join token.

Only addresses, ports and host names differ. `NAME.example.com` becomes `NAME.localhost`, for
which Caddy's own authority issues certificates. The runner sets the example's environment
variables and replaces every other address in the text, where it must occur.
"""

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.support.commands import run_product
from tests.support.entrypoint import Entrypoint
from tests.support.ports import free_port
from tests.support.processes import PRODUCT, Process, wait_port
from tests.support.stack import Authority
from tests.support.waiting import eventually

TUNNEL = "tunnel.example.com"
_PUBLIC = re.compile(r"\.example\.com(?=[],\"])")


class Example:
    """A server with its Caddy, and one agent.

    Args:
        folder: where the copies go.
        agent: the text of agent.yaml, and `server` that of server.yaml.
        name: the agent's id.
        addresses: what takes the place of which text in agent.yaml.
        environment: variables of the agent.
    """

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        *,
        agent: str,
        server: str,
        name: str,
        addresses: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._certificates(folder / "certs", authority)
        tunnel, self._https, permission = (free_port() for _ in range(3))
        edge = f'caddy:\n  bind: ["127.0.0.1"]\n  http_port: 0\n  https_port: {self._https}\n'
        edge += f'  permission_addr: "127.0.0.1:{permission}"\n'
        places = {
            '":8443"': f'"127.0.0.1:{tunnel}"',
            f"{TUNNEL}:8443": f"localhost:{tunnel}",
            "caddy:\n": edge,
        }
        self._write(folder / "server.yaml", server, places)
        self.agent_file = folder / "agent.yaml"
        self._write(self.agent_file, agent, {f"{TUNNEL}:8443": f"localhost:{tunnel}", **addresses})
        self._folder, self._name = folder, name
        self._root = folder / "caddy" / "storage" / "pki" / "authorities" / "local" / "root.crt"
        self.server = self._process("server", folder, {})
        self.agent = self._process("agent", folder, environment or {})

    async def start(self) -> None:
        """Wait until the agent's services are published."""
        self.server.start()
        await wait_port(self._https, process=self.server, timeout=60)
        await eventually(self._root.exists, "Caddy has made its root certificate", 60)
        self.caddy = Entrypoint(self._https, root=self._root)
        await self._join()
        self.agent.start()
        await self.agent.wait_line("service registered", timeout=60)

    async def stop(self) -> None:
        """Stop server and agent."""
        await asyncio.gather(self.agent.stop(), self.server.stop())

    async def published(self, *hosts: str) -> None:
        """Wait until all hosts answer."""

        async def all_do() -> bool:
            return all([(await self.caddy.get(host, "/")).status == 200 for host in hosts])

        await eventually(all_do, f"{hosts} answer", 20)

    def _certificates(self, folder: Path, authority: Authority) -> None:
        folder.mkdir(parents=True)
        for file in (authority.root, *authority.issuer, *authority.server(TUNNEL)):
            shutil.copy(file, folder / file.name)

    async def _join(self) -> None:
        """Create a join token for the host names in agent.yaml, and join with it."""
        hosts = re.findall(r"[\w*.-]+\.localhost", self.agent_file.read_text())
        options = [word for host in dict.fromkeys(hosts) for word in ("--host", host)]
        token = await self.command(
            "tokens", "create", "--agent", self._name, *options, "--config", "server.yaml"
        )
        await self.command("agent", "join", token.strip(), "--force", "--dir", ".")

    async def command(self, *words: str) -> str:
        """Run a command on the server's machine, in the folder with its file; return its output."""
        done = await run_product(*words, cwd=self._folder)
        assert done.code == 0, done
        return done.out

    def _write(self, file: Path, text: str, places: Mapping[str, str]) -> None:
        for before, after in places.items():
            assert before in text, f"{file.name} has no {before!r}"
            text = text.replace(before, after)
        file.write_text(_PUBLIC.sub(".localhost", text))

    def _process(self, role: str, folder: Path, environment: Mapping[str, str]) -> Process:
        command: list[str | Path] = [PRODUCT, role, "run", "--config", folder / f"{role}.yaml"]
        return Process(role, command, log=folder / f"{role}.log", env=environment)
