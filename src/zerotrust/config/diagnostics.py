"""What is wrong with a configuration file, said with file, line, column, key and fix."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]
KeyPath = tuple[str | int, ...]
"""Where a value is in the file: ("services", 0, "upstreams", 1, "address")."""

DOES_NOTHING = "no effect"
"""Words of each warning about a key that is known and does nothing."""

_LONGEST = 80


@dataclass(frozen=True)
class Problem:
    """One thing to correct. Line and column count from 1; line 0 stands for the file as a whole.

    `path` is `key` for programs; the two say the same.
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


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """From the top of the file to its end, each once; a key that is wrong is not warned about as well."""
    each = dict.fromkeys(problems)
    wrong = {problem.key for problem in each if problem.severity == "error"}
    kept = [problem for problem in each if problem.severity == "error" or problem.key not in wrong]
    return sorted(kept, key=lambda problem: (problem.line, problem.column))


def dotted(path: KeyPath) -> str:
    """A path as people write it: services[0].upstreams[1].address."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{printable(step)}" for step in path)
    return text.removeprefix(".")


def printable(text: str) -> str:
    """Text from the file as it can be shown: on one line, of bearable length, without control characters."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"


def suggestion(word: str, known: Iterable[str]) -> str:
    """`, did you mean "address"?`, or nothing where no known word is near."""
    near = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1)
    return f', did you mean "{near[0]}"?' if near else ""
