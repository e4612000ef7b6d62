"""0Trust as users run it: `0trust server run`, which starts Caddy, and `0trust agent run`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.lab.loopback import ADDRESS, free_port, wait_port, wait_socket
from benchmarks.lab.processes import Child, Processes, python
from benchmarks.load.jobs import Endpoint
from zerotrust.pki import ca_directory
from zerotrust.pki.issuer import ServerNames

AGENT = "bench"


class Stack:
    """A server with its own authority, and its agents.

    All settings except addresses and paths are the defaults.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        with_caddy: bool = True,
        sections: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.tunnel_port, self.https_port = free_port(), free_port()
        self.folder = folder / name.replace(" ", "-")
        self._certificates = self.folder / "certs"
        self._with_caddy = with_caddy
        self._sections = dict(sections or {})
        self.server: Child

    def prepare(self) -> None:
        """Make the folder, the authority, the server's certificate and its configuration.

        Raises:
            PkiError: a file cannot be written.
        """
        self.folder.mkdir()
        ca_directory.create_authority(self._certificates)
        issued = ca_directory.issue_server(
            self._certificates, "server", ServerNames(dns=["localhost"], ip=[ADDRESS])
        )
        edge: dict[str, object] = {
            "api": {"listen_addr": f"unix:{self._api_socket}"},
            "caddy": {"mode": "none"},
        }
        if self._with_caddy:
            edge = {
                "caddy": {
                    "config_dir": str(self.folder / "caddy"),
                    "bind": [ADDRESS],
                    "http_port": 0,
                    "https_port": self.https_port,
                    "permission_addr": f"{ADDRESS}:{free_port()}",
                }
            }
        config = {
            "server": {
                "listen_addr": f"{ADDRESS}:{self.tunnel_port}",
                "cert_file": str(issued.certificate),
                "key_file": str(issued.key),
                "ca_file": str(self._root),
            },
            "state": {"dir": str(self.folder / "state")},
            "unsafe_agents_may_claim_any_host": True,
            **edge,
            **self._sections,
        }
        (self.folder / "server.yaml").write_text(json.dumps(config))  # JSON is YAML

    async def start_server(self, processes: Processes) -> Child:
        """Start the server and wait until agents and clients can connect.

        Raises:
            BenchError: the server did not start.
        """
        command = python("zerotrust", "server", "run", "--config", self.folder / "server.yaml")
        self.server = await processes.start(f"{self.name} server", command)
        await wait_port(self.tunnel_port, self.server)
        await wait_socket(self._api_socket, self.server)
        if self._with_caddy:
            await wait_port(self.https_port, self.server)
        return self.server

    def agent_config(
        self, agent: str, services: Mapping[str, int], credentials: ca_directory.CaPaths
    ) -> dict[str, Any]:
        """Return the configuration of an agent that publishes local ports under host names."""
        return {
            "agent": {"id": agent},
            "server": {
                "address": f"{ADDRESS}:{self.tunnel_port}",
                "server_name": "localhost",
                "ca_cert": str(self._root),
                "cert": str(credentials.certificate),
                "key": str(credentials.key),
            },
            "services": [
                {
                    "id": host,
                    "hostname": host,
                    "protocol": "http",
                    "upstreams": [{"address": f"{ADDRESS}:{port}"}],
                }
                for host, port in services.items()
            ],
        }

    def prepare_agent(
        self, agent: str, services: Mapping[str, int], *, by_websocket: bool = False
    ) -> Path:
        """Issue an agent's certificate and write its file.

        Args:
            by_websocket: the agent reaches the server through Caddy.

        Raises:
            PkiError: a file cannot be written.
        """
        credentials = ca_directory.issue_agent(self._certificates, agent)
        path = self.folder / f"{agent}.yaml"
        config = self.agent_config(agent, services, credentials)
        if by_websocket:
            config["server"] |= {
                "transport": "websocket",
                "websocket_address": f"localhost:{self.https_port}",
            }
        path.write_text(json.dumps(config, indent=1))
        return path

    async def start_agent(self, processes: Processes, config: Path) -> Child:
        """Start an agent; its services are published a little later."""
        command = python("zerotrust", "agent", "run", "--config", config)
        return await processes.start(f"{self.name} agent {config.stem}", command)

    def through_caddy(self, host: str) -> Endpoint:
        """Return the endpoint of a host through Caddy, as clients use it."""
        root = self.folder / "caddy" / "storage" / "pki" / "authorities" / "local" / "root.crt"
        return Endpoint(host=host, port=self.https_port, tls=True, root=str(root))

    def without_caddy(self, host: str) -> Endpoint:
        """Return the endpoint of a host at the server, as Caddy uses it."""
        return Endpoint(host=host, path=str(self._api_socket))

    @property
    def admin_socket(self) -> Path:
        """Socket of the server for commands."""
        return self.folder / "state" / "admin.sock"

    @property
    def authority(self) -> Path:
        """Folder of the authority."""
        return self._certificates

    @property
    def _api_socket(self) -> Path:
        """Socket of the server for Caddy: the default."""
        return self.folder / "state" / "api.sock"

    @property
    def _root(self) -> Path:
        return self._certificates / "ca.crt"
