"""Worker: one of the processes of a server that has several (`server.workers`).

Its parent (`server.supervisor`) accepts connections and hands them over. Only requests from Caddy
come to a socket of the worker itself, and questions of other workers to another one.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from zerotrust.errors import SetupError
from zerotrust.model.server import ServerConfig

VARIABLE: Final = "ZEROTRUST_WORKER"
"""Environment variable by which the parent tells a worker its number, the number of workers, and
the descriptors of their channel and of the accepted configuration."""

AGENTS: Final = b"t"
ADMIN: Final = b"a"
METRICS: Final = b"m"
PERMISSION: Final = b"p"
"""Listeners whose connections the parent hands over."""

READY: Final = b"r"
"""The worker serves requests (to the parent)."""
APPLIED: Final = b"y"
REFUSED: Final = b"n"
"""The worker has applied the accepted configuration, or cannot. After each of the three follows
`AcceptedConfig.mark` of the configuration that the worker has read."""


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """Place of a worker among those of its server.

    Attributes:
        index: number of the worker, from 0.
        count: number of workers.
        descriptor: of the channel to the parent.
        config_descriptor: of the accepted configuration (`accepted_config`).
    """

    index: int
    count: int
    descriptor: int = -1
    config_descriptor: int = -1

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Self | None:
        """Return the place that the parent has given to this process; None without a parent.

        Raises:
            SetupError: the variable was set by somebody else.
        """
        text = environment.pop(VARIABLE, None)
        if text is None:
            return None
        try:
            index, count, descriptor, config_descriptor = map(int, text.split("/"))
        except ValueError as error:
            raise SetupError(f"{VARIABLE} is for internal use: unset it") from error
        return cls(index, count, descriptor, config_descriptor)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}/{self.descriptor}/{self.config_descriptor}"

    @property
    def has_parent(self) -> bool:
        """True if a parent hands connections over, False in a server of one process."""
        return self.descriptor >= 0

    @property
    def is_first(self) -> bool:
        """True for one worker, which does what must be done once."""
        return self.index == 0

    def file(self, path: Path) -> Path:
        """Return the file of this worker in place of one of the whole server."""
        return path if self.count == 1 else path.with_name(f"{path.name}-{self.index}")

    def config(self, config: ServerConfig) -> ServerConfig:
        """Return the configuration of this worker: its own sockets and file, its share of limits.

        The parent watches the files, and tells the workers to reload.
        """
        log, server = config.access_log, config.server
        own_log = None if log.output is None else f"{log.output}.worker-{self.index}"
        still = {"watch_config": False, "watch_certs": False}
        return config.model_copy(
            update={
                "server": server.model_copy(update={"workers": self.count}),
                "api": config.api.model_copy(
                    update={"listen_addr": config.worker_address(self.index)}
                ),
                "admin": config.admin.model_copy(
                    update={"socket": str(admin_socket(config, self.index))}
                ),
                "limits": config.limits.shared(self.count),
                "access_log": log.model_copy(update={"output": own_log}),
                "hot_reload": config.hot_reload.model_copy(update=still),
            }
        )

    def other_sockets(self, config: ServerConfig) -> list[Path]:
        """Return the admin sockets of the other workers."""
        return [admin_socket(config, one) for one in range(self.count) if one != self.index]


def admin_socket(config: ServerConfig, index: int) -> Path:
    """Return the path of a worker's own admin socket, where the other workers ask it."""
    return Path(config.state.dir) / f"worker-{index}.sock"
