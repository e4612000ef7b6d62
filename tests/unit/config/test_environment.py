"""Tests of zerotrust.config.environment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.config.environment import (
    UnresolvedError,
    expand,
    https_proxy,
    no_proxy,
    server_address,
    substitute,
)
from zerotrust.config.yaml_text import Document, parse

SET = {"HOST": "10.0.0.1", "EMPTY": "", "TRICK": "a: [1]\n# ${HOST}", "_x9": "u"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${HOST}", "10.0.0.1"),
        ("http://${HOST}:${PORT:-80}/", "http://10.0.0.1:80/"),
        ("${EMPTY}", ""),
        ("${EMPTY:-full}", "full"),
        ("${NO:-}", ""),
        ("${NO:-a b:-c$d{}", "a b:-c$d{"),
        ("${HOST:-other}", "10.0.0.1"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("$HOST $ { } $$ \\$", "$HOST $ { } $$ \\$"),
        ("${_x9}", "u"),
        ("${TRICK}", "a: [1]\n# ${HOST}"),
    ],
)
def test_references(text: str, value: str) -> None:
    assert expand(text, SET) == value


@pytest.mark.parametrize("text", ["${NO}", "a${NO}b", "${HOST}${no}"])
def test_a_variable_that_is_not_set_is_named(text: str) -> None:
    with pytest.raises(
        UnresolvedError,
        match=r"variable (NO|no) is not set; set it or add a default: \$\{(NO|no):-defa",
    ):
        expand(text, SET)


@pytest.mark.parametrize(
    "text", ["${", "${}", "${HOST", "${9}", "${A-b}", "${A:b}", "${ HOST }", "${HOST:-x", "${ä}"]
)
def test_malformed_references_are_refused(text: str) -> None:
    with pytest.raises(UnresolvedError, match="is not followed by"):
        expand(text, SET)


@pytest.mark.slow
@given(st.text(st.sampled_from("${}:-AB \n"), max_size=30), st.text(max_size=5))
def test_any_text_is_expanded_once_or_refused(text: str, value: str) -> None:
    try:
        found = expand(text, {"A": value, "B": "${A}"})
    except UnresolvedError:
        assert "${" in text
        return
    if "${" not in text:
        assert found == text


@given(st.text(st.sampled_from("ab$}:- ")))
def test_escaped_text_is_unescaped(text: str) -> None:
    assert expand(text.replace("${", "$${"), {}) == text
    assert expand("$${" + text, {}) == "${" + text


def substituted(text: str) -> Document:
    document = parse(text)
    substitute(document, SET)
    return document


def test_a_variable_cannot_add_keys_or_lists() -> None:
    document = substituted(
        "a: ${TRICK}\n${HOST}: 1\nb: [x, '${NO:-5}', {c: \"${HOST}\"}]\nd: |\n  ${HOST}\n  y\n"
    )
    assert document.data == {
        "a": "a: [1]\n# ${HOST}",
        "${HOST}": 1,
        "b": ["x", "5", {"c": "10.0.0.1"}],
        "d": "10.0.0.1\ny\n",
    }
    assert document.faults == []
    assert document.place(("b", 1)).text == "5"


def test_an_unset_variable_has_a_place() -> None:
    document = substituted("a:\n  - b: x ${NO}\n")
    [(at, path, message)] = document.faults
    assert (at, path) == ((2, 8), ("a", 0, "b"))
    assert (
        message == "the environment variable NO is not set; set it or add a default: ${NO:-default}"
    )
    assert document.unresolved == {path}


def test_anchors_and_merges_are_expanded_where_they_end_up() -> None:
    document = substituted("a: &a {x: '${HOST}'}\nb: {<<: *a}\nc: *a\n")
    assert document.data == {"a": {"x": "10.0.0.1"}, "b": {"x": "10.0.0.1"}, "c": {"x": "10.0.0.1"}}


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, None),
        ({"SERVER_PORT": "9000"}, "localhost:9000"),
        ({"SERVER_ADDRESS": "b:1", "SERVER_PORT": "9000"}, "b:1"),
        ({"ZERO_TRUST_SERVER": "a:1", "SERVER_ADDRESS": "b:1"}, "a:1"),
        ({"ZERO_TRUST_SERVER": "", "SERVER_ADDRESS": "", "SERVER_PORT": ""}, None),
    ],
)
def test_the_server_of_an_agent(variables: dict[str, str], address: str | None) -> None:
    assert server_address(variables) == address


def test_the_proxy_and_its_exceptions() -> None:
    variables = {"ALL_PROXY": "d"}
    assert https_proxy({}) is None
    assert https_proxy(variables) == ("ALL_PROXY", "d")
    variables["all_proxy"] = "c"
    assert https_proxy(variables) == ("all_proxy", "c")
    variables["HTTPS_PROXY"] = "b"
    assert https_proxy(variables) == ("HTTPS_PROXY", "b")
    variables["https_proxy"] = ""
    assert https_proxy(variables) == ("HTTPS_PROXY", "b"), "an empty variable is none"
    variables["https_proxy"] = "a"
    assert https_proxy(variables) == ("https_proxy", "a")
    assert no_proxy({}) == ""
    assert no_proxy({"NO_PROXY": "b"}) == "b"
    assert no_proxy({"NO_PROXY": "b", "no_proxy": "a"}) == "a"
