"""Differences between two configurations: services by id, everything else by section."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import Model
from zerotrust.model.service import Service

MAX_NAMES: Final = 8
"""Maximum number of services named in one line of the log. Beyond it, the line has their number."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Changed services (by id) and other changed keys, such as "logging.level".

    `files` are certificate and key files whose contents changed.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((self.added, self.changed, self.removed, self.keys, self.files))

    @property
    def sections(self) -> frozenset[str]:
        """Return the top-level sections with a change."""
        return frozenset(key.partition(".")[0] for key in self.keys)

    def __str__(self) -> str:
        parts = (
            ("added", self.added),
            ("changed", self.changed),
            ("removed", self.removed),
            ("settings", self.keys),
            ("files", self.files),
        )
        return "; ".join(f"{what} {_named(names)}" for what, names in parts if names) or "nothing"


def compare(before: Model, after: Model, *, files: Sequence[str] = ()) -> Changes:
    """Return the changes from `before` to `after`. Both are of the same model."""
    old, new = _services(before), _services(after)
    return Changes(
        added=tuple(name for name in new if name not in old),
        changed=tuple(
            name for name, service in new.items() if name in old and old[name] != service
        ),
        removed=tuple(name for name in old if name not in new),
        keys=tuple(_keys(before, after)),
        files=tuple(files),
    )


def _services(config: Model) -> dict[str, Service]:
    services = config.services if isinstance(config, AgentConfig) else []
    return {service.service_id: service for service in services}


def _keys(before: Model, after: Model, inside: str = "") -> list[str]:
    """Return the keys with another value, at most two levels deep: "logging.level"."""
    found: list[str] = []
    for name in type(after).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if old == new or name == "services":
            continue
        if isinstance(new, Model) and isinstance(old, Model) and not inside:
            found += _keys(old, new, f"{name}.") or [name]
        else:
            found.append(inside + name)
    return found


def _named(names: tuple[str, ...]) -> str:
    return (
        ", ".join(names)
        if len(names) <= MAX_NAMES
        else f"{len(names)} ({', '.join(names[:MAX_NAMES])}, …)"
    )
