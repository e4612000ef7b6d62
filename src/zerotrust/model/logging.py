"""Settings of the log, and of reloads."""

from typing import Annotated, Final, Literal, get_args

from pydantic import BeforeValidator

from zerotrust.model.base import Duration, Model

LevelName = Literal["debug", "info", "warn", "warning", "error", "fatal"]
LEVELS: Final[tuple[str, ...]] = get_args(LevelName)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Level = Annotated[LevelName, BeforeValidator(_lower)]
ReloadSignal = Annotated[Literal["", "SIGHUP", "SIGUSR1", "SIGUSR2"], BeforeValidator(_upper)]


class Logging(Model):
    """Level, format and destination of the log. Changes need no restart."""

    level: Level = "info"
    """Lowest level that is written. If the file does not set it, the environment variable
    `LOG_LEVEL` applies."""

    format: Literal["console", "json"] = "console"
    """`console` for people; `json` for programs: one object per line."""

    output: str = "stderr"
    """`stderr`, `stdout` or the name of a file; lines are appended to the file."""


class HotReload(Model):
    """Reload of the configuration and the certificates.

    A file with an error changes nothing, and the log states the error.
    """

    enabled: bool = True
    """Reload when a file changes. A signal reloads in either case."""

    watch_config: bool = True
    """Reload when the configuration file changes, or a file whose contents belong to it
    (`users_file`, `secret_file`, …)."""

    watch_certs: bool = True
    """Reload when a certificate or private key file changes."""

    reload_signal: ReloadSignal = ""
    """Signal that reloads, in addition to SIGHUP: `SIGUSR1` or `SIGUSR2`."""

    drain_timeout: Duration = 30.0
    """Maximum time for running requests to finish when the program stops. After them, WebSockets
    are closed with a request to reconnect. An agent also applies it to requests and WebSockets of a
    service, upstream or server that was removed from the file."""

    graceful_timeout: Duration | None = None
    """Older name of `drain_timeout`. If both are given, `drain_timeout` applies."""

    debounce_delay: Duration = 0.5
    """Time without further changes before a reload: many programs write a file in several steps."""

    @property
    def drains_for(self) -> float:
        """Return the seconds of `drain_timeout`, under either name."""
        if self.graceful_timeout is None or "drain_timeout" in self.model_fields_set:
            return self.drain_timeout
        return self.graceful_timeout
