"""Tests of zerotrust.config.caddyfile, also against what Caddy itself reads."""

import json
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.caddy.executable import locate
from zerotrust.config.caddyfile import DEEPEST, Directive, MalformedError, parse


def shape(directives: list[Directive]) -> list[Any]:
    """Words and blocks, without places."""
    found: list[Any] = []
    for directive in directives:
        words = tuple(word.text for word in directive.words)
        found.append(words if directive.block is None else (words, shape(directive.block)))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("# nothing\n\n", []),
        ("{\n\temail a@b.example # who\n}", [((), [("email", "a@b.example")])]),
        (":443 {\n}\n:80 {\n}", [((":443",), []), ((":80",), [])]),
        ("a.example, b.example,\nc.example {\n}", [(("a.example", "b.example", "c.example"), [])]),
        (
            "a.example\nroot /srv\nroute {\nfile_server\n}",
            [(("a.example",), [("root", "/srv"), (("route",), [("file_server",)])])],
        ),
        ("a {\n x \\\n y\n}", [(("a",), [("x", "y")])]),
        ('a {\n x "b c" d"e"f `g\n"h"` "i\\"j\\k" #l\n}', [(("a",), [("x", "b c", 'd"e"f', 'g\n"h"', 'i"j\\k')])]),
        ("a {\n x {host}{uri} b#c\n}", [(("a",), [("x", "{host}{uri}", "b#c")])]),
        ('a {\n x "{" `}`\n}', [(("a",), [("x", "{", "}")])]),
        ("a {\n x <<END\n  b {\n  END y\n}", [(("a",), [("x", "b {", "y")])]),
        ("a {\r\n x\r\n}\r\n", [(("a",), [("x",)])]),
        ("import sites/*\na {\n}", [("import", "sites/*"), (("a",), [])]),
        ("a {\n x {$HERE} {$NOT:default}/{$HERE} {$EMPTY:d}\n}", [(("a",), [("x", "there", "default/there", "")])]),
    ],
)
def test_words_and_blocks(text: str, expected: list[Any]) -> None:
    assert shape(parse(text, {"HERE": "there", "EMPTY": ""})) == expected


def test_places() -> None:
    (site,) = parse('# a\n:443 {\n\troute {\n\t\tx "y\nz" w\n\t\tq\n\t}\n}\n', {})
    (route,) = site.block or []
    x, q = route.block or []
    assert (site.at, route.at, q.at) == ((2, 1), (3, 2), (6, 3))
    assert [word.at for word in x.words] == [(4, 3), (4, 5), (5, 4)]


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("a {\n", (1, 1), 'a "{" that no "}" closes'),
        ("a {\n x {\n}\n", (1, 1), 'a "{" that no "}" closes'),
        ("}", (1, 1), '"}" stands on a line of its own'),
        ("a {\n} b", (2, 3), 'after "}" comes a new line'),
        ("a {\n x { y\n}\n}", (2, 4), 'after "{" comes a new line'),
        ("a {\n x }\n}", (2, 4), '"}" stands on a line of its own'),
        ('a {\n x "b\n}', (2, 4), "quotation mark that is not closed"),
        ("a {\n x {$NO}\n}", (2, 4), "the environment variable NO is not set"),
        ("a {\n" * (DEEPEST + 1), (DEEPEST + 1, 1), "nested deeper"),
    ],
)
def test_what_is_no_caddyfile(text: str, at: tuple[int, int], message: str) -> None:
    with pytest.raises(MalformedError, match=message) as caught:
        parse(text, {})
    assert caught.value.at == at


@given(st.text(st.sampled_from('ab{}$:" `\\\n\t#<,E'), max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        found = parse(text, {})
    except MalformedError as error:
        assert error.at[0] <= text.count("\n") + 1
    else:
        assert all(directive.words or directive.block is not None for directive in found)


WRITTEN = (
    "plain",
    "a\\b",
    '"two words"',
    '"a \\"quoted\\" word"',
    '"back\\slash"',
    '`raw \\" "`',
    "b#c",
    'd"e"f',
    "{http.request.host}x",
    '"{"',
    "<<END\n\tone\n\ttwo\n\tEND",
)


def test_caddy_reads_the_same_words() -> None:
    text = ":80 {\n" + "".join(f"\theader X-{number} {word}\n" for number, word in enumerate(WRITTEN)) + "}\n"
    done = subprocess.run(
        [locate(), "adapt", "--adapter", "caddyfile", "--config", "/dev/stdin"],
        input=text,
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    routes = json.loads(done.stdout)["apps"]["http"]["servers"]["srv0"]["routes"]
    theirs: dict[str, str] = {}
    for handler in routes[0]["handle"]:
        theirs.update({name: values[0] for name, values in handler["response"]["set"].items()})
    (site,) = parse(text, {})
    ours = {directive.arguments[0]: directive.arguments[1] for directive in site.block or []}
    assert ours == theirs
