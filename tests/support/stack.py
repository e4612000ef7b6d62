"""A complete 0Trust as processes: certificates, server with Caddy, agents.

Example:
    services = [service("app.localhost", origin.port)]
    async with Stack(folder, authority, agents={"agent-1": services}) as stack:
        response = await stack.caddy.get("app.localhost", "/echo")
"""

import contextlib
import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.support.databases import migrated_sqlite
from tests.support.entrypoint import Entrypoint
from tests.support.ports import free_port
from tests.support.processes import PRODUCT, Process, wait_port
from tests.support.waiting import eventually
from zerotrust.model.base import join_address
from zerotrust.pki import ca_directory
from zerotrust.pki.issuer import ServerNames

Service = dict[str, Any]
DEFAULT_API = {"listen_addr": None, "trusted_proxies": None}
"""Section of the server's file without a value for the address and the trust in proxies."""


def service(hostname: str, port: int, **keys: Any) -> Service:
    """Return a service for agent.yaml, in full form with one upstream on loopback."""
    return {
        "id": keys.pop("id", hostname),
        "hostname": hostname,
        "protocol": "http",
        "upstreams": [{"address": f"127.0.0.1:{port}"}],
        **keys,
    }


def _put_database(folder: Path) -> None:
    """Put a database into a server's folder: to make it takes a third of the server's start."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (file := folder / "state.db").exists():
        migrated_sqlite(file)


class Authority:
    """A certificate authority and its certificates; each is issued once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ca_directory.create_authority(folder)

    @property
    def root(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def issuer(self) -> tuple[Path, Path]:
        """The issuing certificate and its key."""
        return self.folder / "issuer.crt", self.folder / "issuer.key"

    def agent(self, name: str) -> tuple[Path, Path]:
        """Return certificate and key of an agent."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        if not certificate.exists():
            ca_directory.issue_agent(self.folder, name)
        return certificate, key

    def server(self, name: str = "server") -> tuple[Path, Path]:
        """Return certificate and key of a server at localhost."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        if not certificate.exists():
            ca_directory.issue_server(
                self.folder, name, ServerNames(dns=["localhost"], ip=["127.0.0.1"])
            )
        return certificate, key


class Agent:
    """An agent's file and process."""

    def __init__(self, name: str, folder: Path, config: dict[str, Any]) -> None:
        self.name = name
        self.path = folder / f"{name}.yaml"
        self.config = config
        self._write()
        command: list[str | Path] = [PRODUCT, "agent", "run", "--config", self.path]
        self.process = Process(name, command, log=folder / f"{name}.log")

    @property
    def services(self) -> list[Service]:
        services: list[Service] = self.config["services"]
        return services

    def set_up(self, **sections: Any) -> None:
        """Change sections of the file before the agent starts."""
        self.config.update(sections)
        self._write()

    def set_services(self, services: Sequence[Service]) -> None:
        """Change the file and tell the agent to reload it."""
        self.config["services"] = list(services)
        self._write()
        self.process.send_signal(signal.SIGHUP)

    def _write(self) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.config, indent=1))  # JSON is YAML
        fresh.replace(self.path)


class Stack:
    """All processes; entering the context waits until every agent's services answer."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        *,
        agents: Mapping[str, Sequence[Service]],
        with_caddy: bool = True,
        level: str = "info",
        sections: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the files; `sections` replace the server's own, or extend `server` and `api`.

        The proxy API listens at a port that tests use as well, and believes them like Caddy.
        `{"api": DEFAULT_API}` has the API that users get by default; then `api` has no use.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = authority
        self.tunnel_port = free_port()
        self.api = Entrypoint(free_port())
        self.plain = Entrypoint(free_port())
        """Entry point through Caddy over HTTP."""
        self.https_port = free_port()
        self.permission_port = free_port()
        """Port of the endpoint at which Caddy asks for permission to get a certificate."""
        self._with_caddy = with_caddy
        self._tunnel_host = "127.0.0.1"
        self._level = level
        self._stack = contextlib.AsyncExitStack()
        config = folder / "server.yaml"
        own, other = self._server_config(), dict(sections or {})
        for section in ("server", "api"):
            own[section] |= other.pop(section, {})
        whole = {**own, **other}
        config.write_text(json.dumps(whole, indent=1))
        self._has_api_port = whole["api"]["listen_addr"] is not None
        if "url" not in whole["state"]:
            _put_database(Path(whole["state"]["dir"]))
        command: list[str | Path] = [PRODUCT, "server", "run", "--config", config]
        self.server = Process("server", command, log=folder / "server.log")
        self.agents = {name: self.make_agent(name, services) for name, services in agents.items()}

    def listen(self, host: str) -> None:
        """Let agents connect to another local address, or to all; call it before entering."""
        path = self.folder / "server.yaml"
        config = json.loads(path.read_text())
        config["server"]["listen_addr"] = join_address(host, self.tunnel_port)
        path.write_text(json.dumps(config, indent=1))
        self._tunnel_host = host or "127.0.0.1"

    def use_ipv6_loopback(self) -> None:
        """Put the server's API and Caddy on [::1]; call it before the context is entered."""
        path = self.folder / "server.yaml"
        config = json.loads(path.read_text())
        config["api"]["listen_addr"] = f"[::1]:{self.api.port}"
        if self._with_caddy:
            config["caddy"] |= {
                "bind": ["::1"],
                "permission_addr": f"[::1]:{self.permission_port}",
            }
        path.write_text(json.dumps(config, indent=1))
        self.api.address = self.plain.address = "::1"

    @property
    def caddy_root(self) -> Path:
        return self.folder / "caddy" / "storage" / "pki" / "authorities" / "local" / "root.crt"

    @property
    def caddy_chain(self) -> Path:
        """Intermediate certificate that signs the services' certificates, below Caddy's root."""
        return self.caddy_root.with_name("intermediate.crt")

    @property
    def caddy(self) -> Entrypoint:
        """Entry point through Caddy over HTTPS."""
        return self._caddy

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for agent in self.agents.values():
            await agent.process.stop()
        await self.server.stop()

    async def _start(self) -> None:
        self.server.start()
        await self.wait_server()
        for agent in self.agents.values():
            agent.process.start()
        for agent in self.agents.values():
            await self.wait_agent(agent)

    async def wait_server(self) -> None:
        """Wait until agents and clients can connect."""
        await wait_port(self.tunnel_port, process=self.server, host=self._tunnel_host)
        if self._has_api_port:
            await wait_port(self.api.port, process=self.server, host=self.api.address)
        if self._with_caddy:
            await self._wait_caddy()

    async def _wait_caddy(self) -> None:
        await wait_port(self.https_port, process=self.server, host=self.api.address)
        if not self._has_api_port:  # `wait_published` asks by HTTP then
            await wait_port(self.plain.port, process=self.server, host=self.api.address)
        await eventually(self.caddy_root.exists, "Caddy has made its root certificate")
        self._caddy = Entrypoint(self.https_port, root=self.caddy_root, address=self.api.address)

    async def wait_agent(self, agent: Agent) -> None:
        """Wait until the agent's services are published."""
        if agent.services:
            await self.wait_published(agent.services[0]["hostname"], process=agent.process)

    async def wait_published(self, host: str, *, process: Process | None = None) -> None:
        """Wait until the server has an agent for the host."""

        async def is_served() -> bool:
            assert process is None or process.is_alive, f"{process and process.text()[-3000:]}"
            response = await (self.api if self._has_api_port else self.plain).get(host, "/")
            return response.error_code not in ("unknown_host", "no_agent", "service_gone")

        try:
            await eventually(is_served, f"{host} is published", 20)
        except AssertionError as error:
            log = process.text()[-3000:] if process else ""
            raise AssertionError(f"{error}\n{log}\nserver:\n{self.server.text()[-3000:]}") from None

    def make_agent(
        self,
        name: str,
        services: Sequence[Service],
        *,
        credentials: tuple[Path, Path] | None = None,
        file: str | None = None,
    ) -> Agent:
        """Create an agent, not started; other `credentials` are for tests of trust."""
        certificate, key = credentials or self.authority.agent(name)
        config = {
            "agent": {"id": name},
            "server": {
                "address": f"127.0.0.1:{self.tunnel_port}",
                "server_name": "localhost",
                "ca_cert": str(self.authority.root),
                "cert": str(certificate),
                "key": str(key),
            },
            "logging": {"level": self._level},
            "hot_reload": {"enabled": True, "watch_config": False, "reload_signal": "SIGHUP"},
            "services": list(services),
        }
        return Agent(file or name, self.folder, config)

    def _server_config(self) -> dict[str, Any]:
        certificate, key = self.authority.server()
        edge: dict[str, Any] = {"mode": "none"}
        if self._with_caddy:
            edge = {
                "mode": "managed",
                "config_dir": str(self.folder / "caddy"),
                "bind": ["127.0.0.1"],
                "http_port": self.plain.port,
                "https_port": self.https_port,
                "permission_addr": f"127.0.0.1:{self.permission_port}",
            }
        return {
            "server": {
                "listen_addr": f"127.0.0.1:{self.tunnel_port}",
                "cert_file": str(certificate),
                "key_file": str(key),
                "ca_file": str(self.authority.root),
            },
            "api": {
                "listen_addr": f"127.0.0.1:{self.api.port}",
                "trusted_proxies": ["127.0.0.0/8", "::1"],
            },
            "state": {"dir": str(self.folder / "state")},
            "unsafe_agents_may_claim_any_host": True,
            "caddy": edge,
            "logging": {"level": self._level},
        }
