"""Tests of zerotrust.config.yaml_text."""

import io
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from zerotrust.config.yaml_text import MAX_VALUES, SourcePosition, parse, plain


def faults(text: str) -> list[str]:
    return [f"{line}:{column} {message}" for (line, column), _, message in parse(text).faults]


def test_values_and_their_places() -> None:
    document = parse("a:\n  - b: 'x'\n    c: 007\n")
    assert document.data == {"a": [{"b": "x", "c": 7}]}
    assert document.places["a", 0, "c"] == SourcePosition((3, 5), (3, 8), "007")
    assert document.places["a",] == SourcePosition((1, 1), (2, 3), None)
    assert document.place(("a", 0, "missing", "deep")).value == (2, 5)
    assert document.place(("nothing",)).value == (1, 1)
    assert parse("").place(("x",)).value == (1, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("12", 12),
        ("-0", 0),
        ("0o17", 15),
        ("0xfF", 255),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("1.2.3", "1.2.3"),
        ("2001-01-01", "2001-01-01"),
        ("0o9", "0o9"),
        ("9" * 5000, math.inf),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    assert plain(text) == value
    assert type(plain(text)) is type(value)


def test_quotes_and_tags_make_text() -> None:
    assert parse("['1', \"2\", !!str 3]").data == ["1", "2", "3"]


# The characters that only YAML 1.1 calls ends of lines are written by ruamel as it does not read
# them.
TEXT = st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(TEXT, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc<", max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(JSON)
def test_dumped_yaml_is_parsed_back(data: Any) -> None:
    out = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = (
        False  # in a flow, ruamel writes some texts ("?0") that it can't read again
    )
    writer.dump({"root": data}, out)
    document = parse(out.getvalue())
    assert document.faults == []
    assert document.data == {"root": data}


def test_aliases_and_merges() -> None:
    text = (
        "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: [{z: 5}, *b], x: 9}\nd: *a\ne: {'<<':"
        " 1}\n"
    )
    assert parse(text).data == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 9, "y": 3, "z": 5},
        "d": {"x": 1, "y": 2},
        "e": {"<<": 1},
    }


def test_every_duplicate_is_named_with_the_first_line() -> None:
    assert faults("a: 1\nb: 2\na: 3\nb: 4\nc: {d: 1, d: 2}\n") == [
        "3:1 is given twice, first on line 1; remove one",
        "4:1 is given twice, first on line 2; remove one",
        "5:11 is given twice, first on line 5; remove one",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: [${B}]",
            (
                "1:6 not valid YAML: expected ',' or ']', but got '{' while parsing a flow"
                " sequence; put ${NAME} in quotes here"
            ),
        ),
        ("a: *b", "1:4 not valid YAML: found undefined alias 'b'"),
        *(
            (
                text,
                "3:2 not valid YAML: wrong indentation: the lines of one list or section begin in"
                " the same column",
            )
            for text in ("a:\n  b: 1\n c: 2\n", "a:\n  - b\n - c\n")
        ),
        (
            "a: b: c",
            (
                "1:5 not valid YAML: a second colon on this line, or wrong indentation; put the"
                " value in quotes"
            ),
        ),
        ("a: 1\nb: \x07", "2:4 not valid YAML: a control character; remove it"),
        ("a: &a [*a]", "1:4 an alias refers to a value that contains it; remove it"),
        ("a: &a {<<: *a}", "1:4 an alias refers to a value that contains it; remove it"),
        ("? {a: b}\n: c", "1:3 a key must be plain text"),
        ("a: !x 1", '1:4 the tag "!x" is not supported; remove it'),
        ("<<: 1", "1:5 can only merge mappings"),
        ("[" * 60 + "]" * 60, "1:51 not valid YAML: nested deeper than 50 levels"),
        ("a: " + "[" * 5000, "1:53 not valid YAML: nested deeper than 50 levels"),
    ],
)
def test_faults_have_position_and_reason(text: str, message: str) -> None:
    assert faults(text) == [message]


def test_nested_aliases_are_limited() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    [message] = faults("\n".join(lines))
    assert message.endswith(f"more than {MAX_VALUES:,} values; remove nested aliases")
    merges = ["a0: &a0 {x: 1}"]
    merges += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    assert faults("\n".join(merges))[-1:] == [] or "more than" in faults("\n".join(merges))[-1]


def test_merges_count_before_they_are_expanded() -> None:
    base = ", ".join(f"k{n}: 1" for n in range(1000))
    tracemalloc.start()
    try:
        [message] = faults(f"a: &a {{{base}}}\nb: {{<<: [{', '.join(['*a'] * 3000)}]}}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert message.endswith(f"more than {MAX_VALUES:,} values; remove nested aliases")
    assert peak < 10_000_000, "a list of three million pairs takes 24 MB and more"


def test_a_lone_surrogate_is_refused() -> None:
    document = parse('a: "\\ud800"')
    assert document.data == {"a": ""}
    assert len(document.faults) == 1
