"""YAML parser that returns plain data with the position of every key and value.

ruamel.yaml parses the text into nodes. This module reads the nodes instead of ruamel's constructor,
because that stops at the first duplicate key, and because each value keeps its spelling: `id: 007`
is a number in YAML, but text in a configuration.

Scalars follow YAML 1.2's core schema. Anchors, aliases and `<<` work. A file is refused if it
expands to more than `MAX_VALUES` values, is nested deeper than `MAX_DEPTH`, contains itself, or has
a tag that is not YAML's own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from zerotrust.config.diagnostics import KeyPath, printable

MAX_VALUES: Final = 100_000
MAX_DEPTH: Final = 50
_TOO_MANY: Final = f"more than {MAX_VALUES:,} values; remove nested aliases"

_CORE: Final = "tag:yaml.org,2002:"
_TAGS: Final = ("null", "bool", "int", "float", "str", "seq", "map", "merge", "timestamp", "value")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,300}\Z")
_BASED: Final = re.compile(r"0o[0-7]{1,300}\Z|0x[0-9a-fA-F]{1,300}\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_WORDS: Final[dict[str, object]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True)
class SourcePosition:
    """Position of a key and of its value (line and column from 1), and a scalar's spelling."""

    key: tuple[int, int]
    value: tuple[int, int]
    text: str | None = None


@dataclass
class Document:
    """Values of a text, and their positions.

    `faults` are errors in the text: (line, column), key, message. `unresolved` are paths of values
    with an unset variable (see `environment`).
    """

    data: Any = None
    places: dict[KeyPath, SourcePosition] = field(default_factory=dict)
    faults: list[tuple[tuple[int, int], KeyPath, str]] = field(default_factory=list)
    unresolved: set[KeyPath] = field(default_factory=set)

    def place(self, path: KeyPath) -> SourcePosition:
        """Return the position of `path`, or of its nearest parent in the file."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, SourcePosition((1, 1), (1, 1)))


class _TooLarge(Exception):  # noqa: N818 - used only inside this file
    """The document is too large or nested too deeply."""

    def __init__(self, at: tuple[int, int], message: str) -> None:
        super().__init__(message)
        self.at = at


def parse(text: str) -> Document:
    """Parse one YAML document.

    It never raises: errors are in `faults`, and `data` is None if nothing could be read.
    """
    document = Document()
    try:
        node = _composer().compose(text)
        if node is not None:
            document.data = _Reader(document).value(node, (), _at(node))
    except MarkedYAMLError as error:
        at = _mark(error)
        document.faults.append(
            (at, (), f"not valid YAML: {_problem_text(error)}{_unquoted_reference(text, at[0])}")
        )
    except ReaderError as error:
        at = _position(text, error.position)
        document.faults.append((at, (), "not valid YAML: a control character; remove it"))
    except _TooLarge as error:
        document.faults.append((error.at, (), str(error)))
    except RecursionError:
        document.faults.append(((1, 1), (), f"nested deeper than {MAX_DEPTH} levels"))
    except (
        YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        AssertionError,
        NotImplementedError,
    ):
        # The parser fails on some hostile texts with other exceptions, without a position.
        document.faults.append(((1, 1), (), "not valid YAML"))
    return document


def _composer() -> YAML:
    yaml = YAML(pure=True)
    yaml.max_depth = MAX_DEPTH
    # YAML allows redefined anchors; ruamel would warn about them on stderr.
    yaml.composer.warn_double_anchors = False
    return yaml


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0
        self._around: list[int] = []

    def value(self, node: Node, path: KeyPath, key_at: tuple[int, int]) -> Any:
        self._count += 1
        at = _at(node)
        if self._count > MAX_VALUES:
            raise _TooLarge(at, _TOO_MANY)
        if len(self._around) > MAX_DEPTH:
            raise _TooLarge(at, f"nested deeper than {MAX_DEPTH} levels")
        if id(node) in self._around:
            raise _TooLarge(at, "an alias refers to a value that contains it; remove it")
        text = node.value if isinstance(node, ScalarNode) else None
        self._document.places[path] = SourcePosition(key_at, at, text)
        self._refuse_tag(node, path)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self._around.append(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [
                    self.value(item, (*path, i), _at(item)) for i, item in enumerate(node.value)
                ]
            return self._mapping(node, path) if isinstance(node, MappingNode) else None
        finally:
            self._around.pop()

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: list[tuple[ScalarNode, Node]] = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._fault(key, path, "a key must be plain text")
            elif key.value == "<<" and key.style is None:
                merged.extend(self._pairs_to_merge(value, path))
            elif key.value in lines:
                where = (*path, key.value)
                self._fault(
                    key, where, f"is given twice, first on line {lines[key.value]}; remove one"
                )
            else:
                lines[key.value] = _at(key)[0]
                found[key.value] = self.value(value, (*path, key.value), _at(key))
        for key, value in merged:
            if key.value not in found:
                found[key.value] = self.value(value, (*path, key.value), _at(key))
        return found

    def _pairs_to_merge(self, node: Node, path: KeyPath) -> Iterator[tuple[ScalarNode, Node]]:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, MappingNode):
                self._fault(source, (*path, "<<"), "can only merge mappings")
                continue
            if id(source) in self._around:
                raise _TooLarge(
                    _at(source), "an alias refers to a value that contains it; remove it"
                )
            self._around.append(id(source))
            if len(self._around) > MAX_DEPTH:
                raise _TooLarge(_at(source), f"nested deeper than {MAX_DEPTH} levels")
            nested: list[Node] = []
            for key, value in source.value:
                self._count += 1
                if self._count > MAX_VALUES:
                    raise _TooLarge(_at(source), _TOO_MANY)
                if isinstance(key, ScalarNode) and not (key.value == "<<" and key.style is None):
                    yield key, value
                elif isinstance(key, ScalarNode):
                    nested.append(value)
            for inner in nested:
                yield from self._pairs_to_merge(inner, path)
            self._around.pop()

    def _scalar(self, node: ScalarNode, path: KeyPath) -> object:
        text: str = node.value
        if any("\ud800" <= c <= "\udfff" for c in text):
            self._fault(
                node, path, "invalid character (a lone surrogate); write the character itself"
            )
            return ""
        if node.style is not None or _core_tag(node) == "str":
            return text
        return plain(text)

    def _refuse_tag(self, node: Node, path: KeyPath) -> None:
        tag = str(node.tag or "")
        if tag and tag != "!" and tag.removeprefix(_CORE) not in _TAGS:
            self._fault(node, path, f'the tag "{printable(tag)}" is not supported; remove it')

    def _fault(self, node: Node, path: KeyPath, message: str) -> None:
        self._document.faults.append((_at(node), path, message))


def plain(text: str) -> object:
    """Return the value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _BASED.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text


def _core_tag(node: ScalarNode) -> str:
    # A plain scalar with the tag "str" that would resolve to another type was tagged in the file.
    return str(node.tag or "").removeprefix(_CORE)


def _at(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _mark(error: MarkedYAMLError) -> tuple[int, int]:
    mark = error.problem_mark or error.context_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _problem_text(error: MarkedYAMLError) -> str:
    parts = [part for part in (error.problem, error.context) if part]
    if isinstance(error, MaxDepthExceededError):
        return f"nested deeper than {MAX_DEPTH} levels"
    if error.problem == "mapping values are not allowed here":
        return "a second colon on this line, or wrong indentation; put the value in quotes"
    if error.problem and "'\\t'" in error.problem:
        return "a tab where YAML wants spaces; indent with spaces"
    if error.problem and error.problem.startswith("expected <block end>"):
        return "wrong indentation: the lines of one list or section begin in the same column"
    if error.problem and error.problem.startswith("but found another document"):
        return "a second document (---); keep one"
    return printable(
        " ".join(" ".join(parts).replace("'<stream end>'", "the end of the file").split())
    )


def _unquoted_reference(text: str, line: int) -> str:
    """Return a hint if the line has ${NAME} inside [ ] or { }, where YAML reads its brace."""
    lines = text.splitlines()
    here = lines[line - 1] if line <= len(lines) else ""
    return (
        "; put ${NAME} in quotes here"
        if "${" in here and ("[" in here or "{" in here.replace("${", ""))
        else ""
    )


def _position(text: str, offset: object) -> tuple[int, int]:
    before = text[: offset if isinstance(offset, int) else 0]
    return before.count("\n") + 1, len(before) - before.rfind("\n")
