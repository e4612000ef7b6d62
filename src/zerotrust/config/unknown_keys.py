"""Detection of unknown keys.

An unknown key is a warning with the nearest known key. A key that asks for protection, which this
release would not give, is an error.
"""

from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel

from zerotrust.config.diagnostics import KeyPath, Severity, suggestion
from zerotrust.model.service import Route, RouteMatch
from zerotrust.model.strict import Strict

PROTECTIONS: Final = frozenset(
    [
        "auth",
        "authentication",
        "authorization",
        "basic_auth",
        "cors",
        "forward_auth",
        "ip_allowlist",
        "ip_blacklist",
        "ip_denylist",
        "ip_whitelist",
        "jwt",
        "mtls",
        "oauth",
        "oauth2",
        "oidc",
        "rate_limit",
    ]
)
"""Names of keys that ask for protection. One of these as an unknown key is an error."""

_GUARDS: Final = ("global_middleware", "handle", "match", "routes", "security")
"""Keys that contain protections. A misspelling of one is an error."""


def is_protection(name: str) -> bool:
    """Return True if a key or handler of this name would protect a service."""
    return name.strip().lower().replace("-", "_") in PROTECTIONS


def not_enforced(name: str) -> str:
    """Return the message about a key that asks for protection."""
    return f"{name} is not supported here; remove it and protect the service in another way"


def unknown_keys(
    model: type[BaseModel], data: Any, path: KeyPath = ()
) -> Iterator[tuple[KeyPath, Severity, str]]:
    """Yield each unknown key below `data`, which is to be read as `model`."""
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        here = (*path, key)
        if key not in model.model_fields:
            yield here, *_judge(model, key, path)
            continue
        inner = model_in(model.model_fields[key].annotation)
        if inner is None or issubclass(inner, Strict):
            continue  # these models refuse unknown keys themselves
        yield from unknown_keys(inner, value, here)
        for index, item in enumerate(value if isinstance(value, list) else []):
            yield from unknown_keys(inner, item, (*here, index))


def _judge(model: type[BaseModel], key: str, path: KeyPath) -> tuple[Severity, str]:
    near = suggestion(key, model.model_fields)
    if is_protection(key):
        return "error", not_enforced(key)
    if path[-1:] == ("security",):
        return (
            "error",
            f"unknown key{near or ', remove it'}; unknown keys in security are never ignored",
        )
    if model in (Route, RouteMatch):
        return (
            "error",
            f"unknown key{near or ', remove it'}; unknown keys in routes are never ignored",
        )
    if any(f'"{guard}"' in near for guard in _GUARDS):
        return "error", f"unknown key{near}; a misspelt protection is never ignored"
    return "warning", f"unknown key{near or ', it is ignored'}"


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in `Model`, `Model | None` or `list[Model]`; None for a union of models."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = {inner for part in get_args(annotation) if (inner := model_in(part))}
    return found.pop() if len(found) == 1 else None
