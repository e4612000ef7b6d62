"""Caddy alone in front of the backends: the baseline."""

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.lab.loopback import ADDRESS, free_port, wait_port
from benchmarks.lab.processes import Processes
from benchmarks.load.jobs import Endpoint
from zerotrust.caddy.executable import locate


class BareCaddy:
    """One Caddy with its internal issuer and a `reverse_proxy` for each host."""

    def __init__(self, name: str, folder: Path, hosts: Mapping[str, int]) -> None:
        self.port, self._plain_port = free_port(), free_port()
        self._name = name
        self._storage = folder / name.replace(" ", "-")
        self._hosts = hosts

    async def start(self, processes: Processes) -> None:
        """Start Caddy and wait until it listens.

        Raises:
            CaddyError: Caddy is not installed.
            BenchError: Caddy did not start.
        """
        self._storage.mkdir()
        config = self._storage / "caddy.json"
        config.write_text(json.dumps(self._config()))
        child = await processes.start(self._name, [locate(), "run", "--config", config])
        await wait_port(self.port, child)

    def endpoint(self, host: str) -> Endpoint:
        """Return the endpoint of a host."""
        root = self._storage / "pki" / "authorities" / "local" / "root.crt"
        return Endpoint(host=host, port=self.port, tls=True, root=str(root))

    def without_tls(self, host: str) -> Endpoint:
        """Return the endpoint of a host at Caddy's plain port, where unknown hosts get a 404."""
        return Endpoint(host=host, port=self._plain_port)

    def _config(self) -> dict[str, object]:
        routes = [
            {
                "match": [{"host": [host]}],
                "handle": [
                    {"handler": "reverse_proxy", "upstreams": [{"dial": f"{ADDRESS}:{port}"}]}
                ],
            }
            for host, port in self._hosts.items()
        ]
        server = {
            "listen": [f"{ADDRESS}:{self.port}"],
            "routes": routes,
            "automatic_https": {"disable_redirects": True},
        }
        unknown = {"handle": [{"handler": "static_response", "status_code": "404"}]}
        plain = {
            "listen": [f"{ADDRESS}:{self._plain_port}"],
            "routes": [*routes, unknown],
            "automatic_https": {"disable": True},
        }
        return {
            "admin": {"disabled": True},
            "storage": {"module": "file_system", "root": str(self._storage)},
            "apps": {
                "http": {"https_port": self.port, "servers": {"edge": server, "plain": plain}},
                "tls": {"automation": {"policies": [{"issuers": [{"module": "internal"}]}]}},
                "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
            },
        }
