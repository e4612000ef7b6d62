"""How logs are written, and when files are read again."""

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
    """Level, form and destination of the log. All of it can be changed without a restart."""

    level: Level = "info"
    """What is less important is not written. Where the file has none, the environment's `LOG_LEVEL` counts."""

    format: Literal["console", "json"] = "console"
    """`console` for people, `json` for programs: one object a line."""

    output: str = "stderr"
    """`stderr`, `stdout` or a file, which is appended to."""


class HotReload(Model):
    """When the files are read again. A file that can't be used changes nothing, and the log says why."""

    enabled: bool = True
    """Watch files. The signal works either way."""

    watch_config: bool = True
    """Read the configuration again when it, or a file whose contents belong into it, changes."""

    watch_certs: bool = True
    """Take new certificates and keys when their files change."""

    reload_signal: ReloadSignal = ""
    """A signal that asks for the same, beside SIGHUP, which always does."""

    drain_timeout: Duration = 30.0
    """How long requests may go on when agent or server end (WebSockets are told to come back when the last of them has
    ended); in an agent's file also requests and WebSockets whose service, upstream or server is no longer there."""

    graceful_timeout: Duration | None = None
    """The original's name of `drain_timeout`, which counts where both are given."""

    debounce_delay: Duration = 0.5
    """How long files must be left alone before they are read, because many programs write in several steps."""

    @property
    def drains_for(self) -> float:
        """`drain_timeout`, by either name."""
        if self.graceful_timeout is None or "drain_timeout" in self.model_fields_set:
            return self.drain_timeout
        return self.graceful_timeout
