"""What the models object to, in plain words and with the place in the file.

Pydantic's messages speak of types of Python; a person who writes YAML is told what was expected, what is there and what
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

_SECRET: Final = frozenset(("users", "secret", "auth", "config", "headers", "request", "response", "set", "add"))
"""Keys behind which a password may stand where the file is not what it should be: errors end up in logs."""

_BOUNDS: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {
    "greater_than_equal": lambda c: f"must be at least {_bound(c['ge'])}",
    "greater_than": lambda c: f"must be more than {_bound(c['gt'])}",
    "less_than_equal": lambda c: f"must be at most {_bound(c['le'])}",
    "less_than": lambda c: f"must be less than {_bound(c['lt'])}",
    "string_too_long": lambda c: f"is longer than {c['max_length']} characters",
    "string_too_short": lambda c: _short(c["min_length"], "characters"),
    "too_short": lambda c: _short(c["min_length"], "entries"),
    "too_long": lambda c: f"has more than {c['max_length']:,} entries",
    "string_pattern_mismatch": lambda _c: "has a character that is not allowed here; use ASCII without spaces",
}


def _bound(bound: float) -> str:
    """Durations are floats, in seconds."""
    return f"{bound:,} s".replace(".0 s", " s") if isinstance(bound, float) else f"{bound:,}"


def _short(least: int, unit: str) -> str:
    return "is empty" if least == 1 else f"has fewer than {least} {unit}"


def objections(error: ValidationError, data: Any) -> list[tuple[KeyPath, str, str]]:
    """Each objection once: the path in the file, pydantic's name for it, and the message."""
    found: dict[KeyPath, tuple[KeyPath, str, str]] = {}
    for details in error.errors(include_url=False):
        path = _in_file(details["loc"], data, missing=details["type"] == "missing")
        # A value that may be one of several types is refused once per type: the first refusal speaks for all.
        found.setdefault(path, (path, details["type"], _message(details, secret=bool(_SECRET.intersection(path[-1:])))))
    return list(found.values())


def _in_file(loc: tuple[str | int, ...], data: Any, *, missing: bool) -> KeyPath:
    """`loc` without the steps that are pydantic's own, such as the name of a type in a union."""
    path: KeyPath = ()
    for step in loc:
        inside = step in data if isinstance(data, dict) else _has(data, step)
        if not inside:
            return (*path, step) if missing and step == loc[-1] else path
        path, data = (*path, step), data[step]
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
        known = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        shown = ", ".join(word for word in known if word)
        return f"expected one of {shown}; found {describe(value)}{_near(value, known)}"
    if kind in _BOUNDS:
        return _BOUNDS[kind](context)
    return printable_sentence(details["msg"][:1].lower() + details["msg"][1:])


def _near(value: object, known: list[str]) -> str:
    return suggestion(value, known) if isinstance(value, str) else ""


def describe(value: object) -> str:
    """A value from the file, in a word or two."""
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
    """A message that may quote the file, on one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:600])
