"""What is different between two configurations: services by their id, everything else by its section."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import Model
from zerotrust.model.service import Service

SHOWN: Final = 8
"""So many services are named in the line that tells of a change; of more, their number."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Ids of services, and other keys ("logging.level"), of a new configuration against the one before.

    `files` are those that a configuration names and that hold something else than before: certificates and keys.
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
        """The root sections in which something changed."""
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


def between(before: Model, after: Model, *, files: Sequence[str] = ()) -> Changes:
    """What makes `after` another configuration than `before`; both are of the same kind."""
    old, new = _services(before), _services(after)
    return Changes(
        added=tuple(name for name in new if name not in old),
        changed=tuple(name for name, service in new.items() if name in old and old[name] != service),
        removed=tuple(name for name in old if name not in new),
        keys=tuple(_keys(before, after)),
        files=tuple(files),
    )


def _services(config: Model) -> dict[str, Service]:
    services = config.services if isinstance(config, AgentConfig) else []
    return {service.service_id: service for service in services}


def _keys(before: Model, after: Model, inside: str = "") -> list[str]:
    """The keys with another value, two levels deep: "logging.level"."""
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
    return ", ".join(names) if len(names) <= SHOWN else f"{len(names)} ({', '.join(names[:SHOWN])}, …)"
