"""Tests of zerotrust.model.fields."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from zerotrust.http import grammar, headers
from zerotrust.model import fields

SET: TypeAdapter[dict[str, list[str]]] = TypeAdapter(fields.SetFields)


def test_refused_headers_are_those_that_forwarding_sets() -> None:
    special = {name.decode() for name in headers.REQUEST_SPECIAL}
    assert special | {"trailer"} == fields.NOT_IN_REQUEST
    assert {name.decode() for name in headers.RESPONSE_SPECIAL} | {
        "trailer"
    } == fields.NOT_IN_RESPONSE


def test_one_value_or_several() -> None:
    assert SET.validate_python({"A": "x", "B": ["y ", " z"], "C": 5}) == {
        "A": ["x"],
        "B": ["y", "z"],
        "C": ["5"],
    }


@pytest.mark.parametrize(
    "value",
    [
        {"A": "x\r\nB: y"},
        {"A": "x\ny"},
        {"A": "x\0"},
        {"A": "\x7f"},
        {"A": []},
        {"A": "x" * 4097},
        {"A": True},
        {"A": {"b": "c"}},
        {"A b": "x"},
        {"A:": "x"},
        {"": "x"},
        {"Ä": "x"},
        {"A\r\n": "x"},
        {"A": "x", "a": "y"},
        {"A" * 300: "x"},
    ],
)
def test_invalid_headers(value: Any) -> None:
    with pytest.raises(ValidationError):
        SET.validate_python(value)


@given(st.text(max_size=10), st.text(max_size=20))
def test_a_valid_header_is_a_canonical_line(name: str, value: str) -> None:
    import re

    try:
        ((found, values),) = SET.validate_python({name: value}).items()
    except ValidationError:
        return
    line = f"{found}: {values[0]}\r\n".encode()
    assert re.fullmatch(grammar.LINES, line)


@pytest.mark.parametrize("name", ["Host", "upgrade", "X-Api-Key", "cookie"])
def test_routes_match_most_headers(name: str) -> None:
    fields.refuse_condition(name)


@pytest.mark.parametrize("name", ["Connection", "x-forwarded-for", "Content-Length", "a b"])
def test_routes_cannot_match_headers_of_the_connection(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        fields.refuse_condition(name)


@given(
    st.sampled_from(sorted(fields.NOT_IN_RESPONSE)),
    st.sampled_from("!#$%&'*+-.^_`|~"),
    st.booleans(),
)
def test_no_spelling_of_the_framing_may_be_changed(
    name: str, separator: str, capitals: bool
) -> None:
    spelled = name.replace("-", separator)
    with pytest.raises(ValueError, match="remove it"):
        fields.refuse_response_field(spelled.upper() if capitals else spelled)


@pytest.mark.parametrize("name", ["Set-Cookie", "Server", "X-Frame-Options"])
def test_fields_that_may_be_changed(name: str) -> None:
    fields.refuse_request_field(name)
    fields.refuse_response_field(name)
