"""Caddy in front of backends without 0Trust, as a reference for the tests themselves."""

import json
import ssl
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Self

from tests.support.entrypoint import Entrypoint
from tests.support.ports import free_port
from tests.support.processes import Process, wait_port
from tests.support.waiting import eventually


class BareCaddy(Process):
    """One Caddy with its internal issuer and one `reverse_proxy` per host; entered, it listens."""

    def __init__(self, folder: Path, hosts: Mapping[str, int]) -> None:
        self.port = free_port()
        self._hosts = list(hosts)
        self._storage = folder / "storage"
        config = folder / "caddy.json"
        config.write_text(json.dumps(self._config(hosts)))
        super().__init__(
            "caddy",
            [Path(sys.executable).with_name("caddy"), "run", "--config", config],
            log=folder / "caddy.log",
            env={"GODEBUG": "http2xconnect=1"},
        )

    async def __aenter__(self) -> Self:
        self.start()
        await wait_port(self.port, process=self)
        root = self._storage / "pki" / "authorities" / "local" / "root.crt"
        await eventually(root.exists, "Caddy has made its root certificate")
        self.caddy = Entrypoint(self.port, root=root)
        for host in self._hosts:
            await eventually(
                partial(self._has_certificate, host), f"Caddy has a certificate for {host}"
            )
        return self

    async def _has_certificate(self, host: str) -> bool:
        try:
            (await self.caddy.open(host)).abort()
        except ssl.SSLError:
            return False
        return True

    def _config(self, hosts: Mapping[str, int]) -> dict[str, object]:
        routes = [
            {
                "match": [{"host": [host]}],
                "handle": [
                    {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{port}"}]}
                ],
            }
            for host, port in hosts.items()
        ]
        server = {
            "listen": [f"127.0.0.1:{self.port}"],
            "routes": routes,
            "automatic_https": {"disable_redirects": True},
        }
        return {
            "admin": {"disabled": True},
            "storage": {"module": "file_system", "root": str(self._storage)},
            "apps": {
                "http": {"https_port": self.port, "servers": {"edge": server}},
                "tls": {"automation": {"policies": [{"issuers": [{"module": "internal"}]}]}},
                "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
            },
        }
