"""How logs are written, and when files are read again."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from zerotrust.model.base import Duration, Model


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Level = Annotated[Literal["debug", "info", "warn", "warning", "error", "fatal"], BeforeValidator(_lower)]


class Logging(Model):
    """Level, form and destination of the log."""

    level: Level = "info"
    format: Literal["console", "json"] = "console"
    output: str = "stderr"


class HotReload(Model):
    """When the file is read again."""

    enabled: bool = True
    watch_config: bool = True
    watch_certs: bool = True
    reload_signal: Literal["", "SIGHUP", "SIGUSR1", "SIGUSR2"] = ""
    graceful_timeout: Duration = 30.0
    debounce_delay: Duration = 0.5
