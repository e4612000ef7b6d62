"""Writes the files of a new agent: certificate, key, root and a first configuration."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from zerotrust.agent.join import DEFAULT_WAY, JoinResult
from zerotrust.errors import PkiError, SetupError
from zerotrust.model.agent import ServerAddress
from zerotrust.model.proxy import Proxy
from zerotrust.pki import key_pair_files, keys
from zerotrust.pki.csr import CertificateRequest, create
from zerotrust.pki.join_token import JoinToken

_CONFIG: Final = """\
# The agent "{agent}" of {server}, made by 0trust agent join.
# A running agent reads this file again when it changes.
# 0trust config check {name} lists its errors.
version: "1.0"
agent_id: "{agent}"
server:
  address: "{server}"
{way}{proxy}  ca_cert: "ca.crt"
  cert: "agent.crt"
  key: "agent.key"

# The services to publish. The server lets this agent serve: {hosts}.
services: []
# Example, to replace the empty list:
# services:
#   - hostname: "{example}"
#     backend: "127.0.0.1:8080"
#     protocol: "http"
"""


@dataclass(frozen=True, kw_only=True)
class AgentFiles:
    """Paths of an agent's files, all in one folder."""

    folder: Path

    @property
    def config(self) -> Path:
        """Return the path of the configuration."""
        return self.folder / "agent.yaml"

    @property
    def certificate(self) -> Path:
        """Return the path of the agent's certificate and the intermediate certificates."""
        return self.folder / "agent.crt"

    @property
    def key(self) -> Path:
        """Return the path of the agent's private key."""
        return self.folder / "agent.key"

    @property
    def proxy_password(self) -> Path:
        """Return the path of the password of the proxy to the server."""
        return self.folder / "proxy.password"

    @property
    def root(self) -> Path:
        """Return the path of the root certificate."""
        return self.folder / "ca.crt"


class AgentFilesWriter:
    """Writes the files in two steps, because a join token can be used only once.

    Use it as a context manager. On entry it checks that the folder can take the files, and writes
    the key there under a temporary name. `finish` writes all files. Without `finish`, the existing
    files stay as they are.
    """

    def __init__(self, folder: Path, *, force: bool) -> None:
        self.files = AgentFiles(folder=folder)
        self.request: CertificateRequest = create()
        self._force = force
        self._pending = folder / f".agent.key.{secrets.token_hex(6)}"

    def __enter__(self) -> Self:
        files = self.files
        if not self._force:
            for path in (files.key, files.certificate, files.root, files.config):
                if path.exists():
                    raise PkiError(
                        f"{path}: exists already and is not overwritten; use --dir, or --force to"
                        " join anew"
                    )
        try:
            files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise PkiError(
                f"{files.folder}: cannot create the folder: {error.strerror}; choose another"
            ) from error
        keys.write(self._pending, keys.to_pem(self.request.key), mode=keys.PRIVATE, replace=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pending.unlink(missing_ok=True)

    def finish(
        self,
        token: JoinToken,
        joined: JoinResult,
        proxy: Proxy | None = None,
        *,
        way: ServerAddress = DEFAULT_WAY,
    ) -> bool:
        """Write all files, but keep an existing configuration.

        Args:
            proxy: the proxy to the server, for a new configuration.
            way: further settings of the way to the server, for a new configuration.

        Returns:
            True if the configuration is new.

        Raises:
            PkiError: a file cannot be written.
        """
        files = self.files
        keys.write(files.root, joined.root_pem, mode=keys.PUBLIC, replace=True)
        key_pem = keys.to_pem(self.request.key)
        key_pair_files.replace(
            files.certificate, files.key, chain=joined.chain_pem, key_pem=key_pem
        )
        fresh = not files.config.exists()
        if fresh:
            if proxy is not None and proxy.password:
                keys.write(
                    files.proxy_password,
                    f"{proxy.password}\n".encode(),
                    mode=keys.PRIVATE,
                    replace=True,
                )
            keys.write(
                files.config,
                configuration(token, joined, proxy, way=way).encode(),
                mode=keys.PRIVATE,
                replace=False,
            )
        _give_to_owner(files)
        return fresh


def configuration(
    token: JoinToken,
    joined: JoinResult,
    proxy: Proxy | None = None,
    *,
    way: ServerAddress = DEFAULT_WAY,
) -> str:
    """Return the text of an agent.yaml that publishes no services yet."""
    named = [host for host in joined.hosts if not host.startswith("*.")]
    below = [host.replace("*", "app", 1) for host in joined.hosts if host.startswith("*.")]
    return _CONFIG.format(
        agent=joined.agent_id,
        server=token.server,
        way=_way_lines(way),
        proxy=_proxy_lines(proxy),
        name="agent.yaml",
        hosts=", ".join(joined.hosts) or "nothing yet (0trust grants add on the server)",
        example=next(iter([*named, *below]), "app.example.com"),
    )


def _way_lines(way: ServerAddress) -> str:
    lines = "" if way.transport == "auto" else f'  transport: "{way.transport}"\n'
    if way.websocket_address is not None:
        lines += f'  websocket_address: "{way.websocket_address}"\n'
    return lines


def _proxy_lines(proxy: Proxy | None) -> str:
    if proxy is None:
        return ""
    lines = f'  proxy: "{proxy.url}"\n'
    if proxy.password:
        lines += '  proxy_password_file: "proxy.password"\n'
    return lines


def _give_to_owner(files: AgentFiles) -> None:
    """Give the files to the owner of the folder, if root writes into the folder of another user."""
    try:
        owner = files.folder.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            paths = (files.key, files.certificate, files.root, files.config, files.proxy_password)
            for path in filter(Path.exists, paths):
                os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise SetupError(
            f"{files.folder}: cannot give the files to its owner: {error.strerror}"
        ) from error
