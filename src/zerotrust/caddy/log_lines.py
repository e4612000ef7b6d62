"""Merges the log of Caddy into ours."""

import json
from typing import Any, Final

from zerotrust.telemetry import logs

_LEVELS: Final = {"info": "debug", "warn": "warning", "error": "error"}
_SEVERE: Final = frozenset({"dpanic", "panic", "fatal"})
_HARMLESS: Final = frozenset(
    {
        "admin endpoint on open interface; host checking disabled",  # logged for a unix socket too
        "exiting; byeee!! 👋",
    }
)
_TAKEN: Final = frozenset(
    {"event", "level", "timestamp", "logger", "exc_info", "stack_info", "exception", "stack"}
)
_DROPPED: Final = frozenset({"level", "ts", "msg", "logger"})


def merge(line: str) -> None:
    """Write one line of Caddy's standard error to our log.

    Caddy's level info becomes debug. A line that is not JSON comes from a crash or a failed start.
    """
    log = logs.logger("caddy")
    entry = _parse(line)
    if entry is None:
        log.warning("caddy output", text=line)
        return
    message = str(entry.get("msg") or "caddy")
    write = getattr(log, method(str(entry.get("level", "")), message))
    write(message, source=str(entry.get("logger", "caddy")), **_fields(entry))


def method(level: str, message: str) -> str:
    """Return the name of our logger's method for a level of Caddy."""
    if message in _HARMLESS:
        return "debug"
    return "critical" if level in _SEVERE else _LEVELS.get(level, "debug")


def reason(line: str) -> str | None:
    """Return the reason of a failed start; None if the line has none."""
    entry = _parse(line)
    if entry is None:
        return line.removeprefix("Error: ") if line.startswith(("Error: ", "panic: ")) else None
    if entry.get("level") in ("error", "fatal", "panic"):
        return ": ".join(str(entry[key]) for key in ("msg", "error") if entry.get(key))
    return None


def _parse(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _fields(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        f"caddy_{key}" if key in _TAKEN or key == "source" else key: value
        for key, value in entry.items()
        if key not in _DROPPED
    }
