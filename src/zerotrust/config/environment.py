"""Environment variables in configuration values: `${NAME}` and `${NAME:-default}`.

    ${NAME}           the value of the variable; an error if it is not set
    ${NAME:-default}  the value, or the text up to the next brace if it is not set or empty
    $${               a literal "${"

Only values are expanded, never keys. The result is text, as if it were quoted: it cannot add keys,
lists or comments to the file, and it is not expanded again. Numbers and booleans are read from text
as well.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from zerotrust.config.diagnostics import KeyPath, printable
from zerotrust.config.yaml_text import Document

_REFERENCE: Final = re.compile(
    r"\$\$\{ | \$\{ (?: (?P<name>[A-Za-z_][A-Za-z0-9_]*) (?P<default>:-[^}]*)? \} )?", re.VERBOSE
)


class UnresolvedError(ValueError):
    """A reference that cannot be replaced; the message names the fix."""


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Return `text` with each reference replaced.

    Raises:
        UnresolvedError: a variable without default is not set, or a reference is malformed.
    """

    def value(found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        if found[0] == "$${":
            return "${"
        if name is None:
            raise UnresolvedError(
                '"${" is not followed by NAME} or NAME:-default}; write $${ for a literal "${"'
            )
        if default is not None:
            return environment.get(name) or str(default).removeprefix(":-")
        if name not in environment:
            shown = printable(name)
            raise UnresolvedError(
                f"the environment variable {shown} is not set; set it or add a default:"
                f" ${{{shown}:-default}}"
            )
        return environment[name]

    return _REFERENCE.sub(value, text)


def server_address(variables: Mapping[str, str]) -> str | None:
    """Return the server's address from the environment, if there is one."""
    port = variables.get("SERVER_PORT")
    named = variables.get("ZERO_TRUST_SERVER") or variables.get("SERVER_ADDRESS")
    return named or (f"localhost:{port}" if port else None)


def https_proxy(variables: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the name and the value of the variable with the proxy for TLS, if there is one."""
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    return next(((name, variables[name]) for name in names if variables.get(name)), None)


def no_proxy(variables: Mapping[str, str]) -> str:
    """Return the list of addresses that are reached without a proxy."""
    return variables.get("no_proxy") or variables.get("NO_PROXY") or ""


def substitute(document: Document, environment: Mapping[str, str]) -> None:
    """Expand all values of `document`, in place.

    A value that cannot be expanded stays as it is and is added to `faults`.
    """
    document.data = _walk(document, document.data, (), environment)


def _walk(document: Document, value: Any, path: KeyPath, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: _walk(document, item, (*path, key), environment) for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            _walk(document, item, (*path, index), environment) for index, item in enumerate(value)
        ]
    if not isinstance(value, str) or "${" not in value:
        return value
    place = document.place(path)
    try:
        value = expand(value, environment)
    except UnresolvedError as problem:
        document.faults.append((place.value, path, str(problem)))
        document.unresolved.add(path)
    else:
        document.places[path] = replace(place, text=value)
    return value
