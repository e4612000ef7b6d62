"""Report of a file's keys for `0trust config check --verbose`.

A key is applied, renamed, without effect or refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from zerotrust.config.diagnostics import KeyPath, dotted, sort_problems
from zerotrust.config.document import Source

State = Literal["applied", "renamed", "without effect", "refused"]


@dataclass(frozen=True)
class Key:
    """A key with its position and its state. `note` is the new name or the reason."""

    key: str
    line: int
    column: int
    state: State
    note: str = ""


def keys(source: Source) -> list[Key]:
    """Return every key of a validated file that has a value of its own, from top to bottom."""
    errors = {problem.path: problem.message for problem in reversed(sort_problems(source.errors))}
    renamed = {old: new for new, old in source.renamed.items() if isinstance(old[-1], str)}
    found = [_key(source, path, errors, renamed) for path in _leaves(source)]
    return sorted(found, key=lambda key: (key.line, key.column))


def _leaves(source: Source) -> Iterator[KeyPath]:
    """Return the paths that end in a key and have no keys below them."""
    written = [path for path in source.document.places if path and path not in source.renamed]
    parents = {
        path[:length]
        for path in written
        if isinstance(path[-1], str)
        for length in range(len(path))
    }
    return (path for path in written if isinstance(path[-1], str) and path not in parents)


def _key(
    source: Source, path: KeyPath, errors: dict[KeyPath, str], renamed: dict[KeyPath, KeyPath]
) -> Key:
    line, column = source.document.places[path].key
    state, note = _state(source, path, errors, renamed)
    return Key(dotted(path), line, column, state, note)


def _state(
    source: Source, path: KeyPath, errors: dict[KeyPath, str], renamed: dict[KeyPath, KeyPath]
) -> tuple[State, str]:
    for wrong, message in errors.items():
        # A missing key is an error of the whole service, not of the keys that it has.
        around = bool(wrong) and isinstance(wrong[-1], str) and path[: len(wrong)] == wrong
        if around or wrong[: len(path)] == path:
            return "refused", message
    for length in range(len(path), 0, -1):
        if (reason := source.ineffective.get(path[:length])) is not None:
            return "without effect", reason.removeprefix("has no effect: ")
    if path in renamed:
        return "renamed", f"now {dotted(renamed[path])}"
    return "applied", ""
