"""Problems in configuration files, with file, line, column, key and fix."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]
KeyPath = tuple[str | int, ...]
"""Place of a value in the file: ("services", 0, "upstreams", 1, "address")."""

DOES_NOTHING = "no effect"
"""Text in each warning about a known key without effect."""

_LONGEST = 80


@dataclass(frozen=True)
class Problem:
    """An error or warning. Line and column count from 1; line 0 means the whole file.

    `path` is `key` in a form for programs.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    severity: Severity = "error"
    path: KeyPath = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


def sort_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems from top to bottom, without duplicates.

    Warnings about a key that also has an error are left out.
    """
    each = dict.fromkeys(problems)
    wrong = {problem.key for problem in each if problem.severity == "error"}
    kept = [problem for problem in each if problem.severity == "error" or problem.key not in wrong]
    return sorted(kept, key=lambda problem: (problem.line, problem.column))


def dotted(path: KeyPath) -> str:
    """Return a path as people write it: services[0].upstreams[1].address."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{printable(step)}" for step in path)
    return text.removeprefix(".")


def printable(text: str) -> str:
    """Return text from the file in printable form: one line, shortened, no control characters."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean "address"?`, or "" if no known word is similar."""
    near = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1)
    return f', did you mean "{near[0]}"?' if near else ""
