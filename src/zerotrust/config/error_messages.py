"""Pydantic's validation errors in plain words, with their place in the file.

Pydantic's messages name Python types. These messages say what was expected, what was found and what
to write instead.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from zerotrust.config.diagnostics import KeyPath, printable, suggestion

_EXPECTED: Final = {
    "string_type": "text",
    "string_unicode": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "list_type": 'a list (lines that begin with "- ")',
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}

_YAML_WORDS: Final = {"True": "true", "False": "false"}

_SECRET: Final = frozenset(
    ("users", "secret", "auth", "config", "headers", "request", "response", "set", "add")
)
"""Keys whose value may be a password if the file is wrong. Errors go to the log, so their values
are not quoted."""

_BOUNDS: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {
    "greater_than_equal": lambda c: f"must be at least {_bound(c['ge'])}",
    "greater_than": lambda c: f"must be more than {_bound(c['gt'])}",
    "less_than_equal": lambda c: f"must be at most {_bound(c['le'])}",
    "less_than": lambda c: f"must be less than {_bound(c['lt'])}",
    "string_too_long": lambda c: f"is longer than {c['max_length']} characters",
    "string_too_short": lambda c: _short(c["min_length"], "characters"),
    "too_short": lambda c: _short(c["min_length"], "entries"),
    "too_long": lambda c: f"has more than {c['max_length']:,} entries",
    "string_pattern_mismatch": lambda _c: (
        "contains a character that is not allowed; use ASCII without spaces"
    ),
}


def _bound(bound: float) -> str:
    """Return a bound as text. Floats are durations in seconds."""
    return f"{bound:,} s".replace(".0 s", " s") if isinstance(bound, float) else f"{bound:,}"


def _short(minimum: int, unit: str) -> str:
    return "is empty" if minimum == 1 else f"has fewer than {minimum} {unit}"


def plain_errors(error: ValidationError, data: Any) -> list[tuple[KeyPath, str, str]]:
    """Return each error once: its path in the file, pydantic's type of it, and the message."""
    found: dict[KeyPath, tuple[KeyPath, str, str]] = {}
    for details in error.errors(include_url=False):
        path = _in_file(details["loc"], data, missing=details["type"] == "missing")
        # A value of a union causes an error for each type: the first one is enough.
        found.setdefault(
            path,
            (
                path,
                details["type"],
                _message(details, secret=bool(_SECRET.intersection(path[-1:]))),
            ),
        )
    return list(found.values())


def _in_file(loc: tuple[str | int, ...], data: Any, *, missing: bool) -> KeyPath:
    """Return `loc` without pydantic's own steps, such as the name of a type in a union."""
    path: KeyPath = ()
    for step in loc:
        inside = step in data if isinstance(data, dict) else _has(data, step)
        if inside:
            path, data = (*path, step), data[step]
        elif missing and step == loc[-1]:
            return (*path, step)
        elif not isinstance(data, list):
            return path
    return path


def _has(data: Any, step: str | int) -> bool:
    return isinstance(data, list) and isinstance(step, int) and step < len(data)


def _message(details: ErrorDetails, *, secret: bool) -> str:
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    if kind == "value_error":
        return printable_sentence(str(context["error"]))
    if kind == "missing":
        return "is missing"
    if kind in _EXPECTED:
        shown = "text" if secret and isinstance(value, str) else describe(value)
        return f"expected {_EXPECTED[kind]}, found {shown}"
    if kind == "literal_error":
        known = [
            word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")
        ]
        shown = ", ".join(_YAML_WORDS.get(word, word) for word in known if word)
        return f"expected one of {shown}; found {describe(value)}{_near(value, known)}"
    if kind in _BOUNDS:
        return _BOUNDS[kind](context)
    return printable_sentence(details["msg"][:1].lower() + details["msg"][1:])


def _near(value: object, known: list[str]) -> str:
    return suggestion(value, known) if isinstance(value, str) else ""


def describe(value: object) -> str:
    """Return a short description of a value in the file."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{printable(value)}"'
        case int() | float():
            return printable(f"{value}")
        case list():
            return "a list"
        case dict():
            return "keys and values"
        case _:
            return "something else"


def printable_sentence(text: str) -> str:
    """Return a message that may quote the file, on one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:600])
