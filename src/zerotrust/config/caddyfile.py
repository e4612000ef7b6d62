"""Caddyfile text: directives with arguments and blocks, and where each is written.

Caddy itself can't say what stands in the files that we are given: they have directives of modules that it does not
know. The grammar is small (https://caddyserver.com/docs/caddyfile/concepts#structure): words are parted by white space;
`"…"` and `` `…` `` make one word of several, `<<END` of several lines; `#` begins a comment where a word could begin;
`{` at the end of a line opens a block and `}` on a line of its own closes it; a backslash continues a line; `{$NAME}`
and `{$NAME:default}` are from the environment.
"""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from zerotrust.config.diagnostics import printable

DEEPEST: Final = 50

_SPACE: Final = re.compile(r"(?:[^\S\n]|\\\n)+")
_COMMENT: Final = re.compile(r"#[^\n]*")
_HEREDOC: Final = re.compile(r"<<([A-Za-z0-9_-]+)[^\S\n]*\n(.*?)^([^\S\n]*)\1(?=\s|\Z)", re.DOTALL | re.MULTILINE)
_QUOTED: Final = re.compile(r'"((?:\\"|[^"])*)"|`([^`]*)`', re.DOTALL)
_WORD: Final = re.compile(r"[^\s]+")
_VARIABLE: Final = re.compile(r"\{\$([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")


class MalformedError(Exception):
    """The text is no Caddyfile, at this line and column."""

    def __init__(self, at: tuple[int, int], message: str) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True)
class Word:
    """One word and its line and column; `bare` where it was not quoted."""

    text: str
    at: tuple[int, int]
    bare: bool = True


@dataclass
class Directive:
    """A line: its words, and its block where it has one. A site's words are its addresses, global options have none."""

    words: list[Word]
    at: tuple[int, int]
    block: "list[Directive] | None" = None
    arguments: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.arguments = [word.text for word in self.words[1:]]

    @property
    def name(self) -> str:
        """The first word."""
        return self.words[0].text if self.words else ""


def parse(text: str, variables: Mapping[str, str]) -> list[Directive]:
    """The blocks and lines at the top of the file.

    Raises:
        MalformedError: the text is no Caddyfile.
    """
    lines = deque(_lines(text, variables))
    found: list[Directive] = []
    while lines:
        words = lines.popleft()
        while words[-1].bare and words[-1].text.endswith(",") and lines:
            words += lines.popleft()
        opened = _opens(words)
        top = Directive(_addresses(words[:-1] if opened else words), words[0].at)
        if opened:
            top.block = _block(lines, top.at, 1)
        elif top.name != "import":
            # Without braces, all that follows belongs to the one site.
            top.block = []
            while lines:
                top.block.append(_directive(lines, 1))
        found.append(top)
    return found


def _block(lines: deque[list[Word]], opened_at: tuple[int, int], depth: int) -> list[Directive]:
    if depth > DEEPEST:
        raise MalformedError(opened_at, f"nested deeper than {DEEPEST} levels")
    found: list[Directive] = []
    while lines:
        if _is(lines[0][0], "}"):
            closing = lines.popleft()
            if len(closing) > 1:
                raise MalformedError(closing[1].at, 'after "}" comes a new line')
            return found
        found.append(_directive(lines, depth))
    raise MalformedError(opened_at, 'a "{" that no "}" closes')


def _directive(lines: deque[list[Word]], depth: int) -> Directive:
    words = lines.popleft()
    opened = _opens(words)
    directive = Directive(words[:-1] if opened else words, words[0].at)
    if opened:
        directive.block = _block(lines, directive.at, depth + 1)
    return directive


def _opens(words: list[Word]) -> bool:
    """The line opens a block. Braces may stand nowhere else."""
    for word in words[:-1]:
        if _is(word, "{"):
            raise MalformedError(word.at, 'after "{" comes a new line')
    for word in words:
        if _is(word, "}"):
            raise MalformedError(word.at, '"}" stands on a line of its own, and closes what "{" has opened')
    return _is(words[-1], "{")


def _is(word: Word, brace: str) -> bool:
    return word.bare and word.text == brace


def _addresses(words: list[Word]) -> list[Word]:
    return [Word(word.text.rstrip(","), word.at, word.bare) for word in words if word.text.strip(",")]


def _lines(text: str, variables: Mapping[str, str]) -> list[list[Word]]:
    """The words of each line that has any."""
    lines: list[list[Word]] = [[]]
    index, line, begin = 0, 1, 0
    while index < len(text):
        at = (line, index - begin + 1)
        if text[index] == "\n":
            lines.append([])
            found: re.Match[str] | None = re.compile("\n").match(text, index)
        elif (found := _SPACE.match(text, index) or _COMMENT.match(text, index)) is None:
            found, word = _word(text, index, at, variables)
            lines[-1].append(word)
        assert found is not None
        whole = found[0]
        if "\n" in whole:
            line += whole.count("\n")
            begin = index + whole.rindex("\n") + 1
        index = found.end()
    return [words for words in lines if words]


def _word(text: str, index: int, at: tuple[int, int], variables: Mapping[str, str]) -> tuple[re.Match[str], Word]:
    if (found := _HEREDOC.match(text, index)) is not None:
        lines = [line.removeprefix(found[3]) for line in found[2].splitlines()]
        return found, Word("\n".join(lines), at, bare=False)
    if (found := _QUOTED.match(text, index)) is not None:
        inner = found[2] if found[1] is None else found[1].replace('\\"', '"')
        return found, Word(_expanded(inner, at, variables), at, bare=False)
    if text[index] in '"`':
        raise MalformedError(at, "a quotation mark that is not closed")
    found = _WORD.match(text, index)
    assert found is not None
    return found, Word(_expanded(found[0], at, variables), at)


def _expanded(text: str, at: tuple[int, int], variables: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name, default = found.groups()
        if name not in variables and default is None:
            shown = printable(name)
            raise MalformedError(
                at, f"the environment variable {shown} is not set; set it, or give a default: {{${shown}:default}}"
            )
        return variables.get(name, default or "")

    return _VARIABLE.sub(value, text)
