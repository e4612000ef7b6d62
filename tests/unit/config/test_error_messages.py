"""Tests of zerotrust.config.error_messages."""

import pytest
from pydantic import BaseModel, Field, ValidationError

from zerotrust.config.error_messages import describe, plain_errors


class Inner(BaseModel):
    size: int = Field(default=1, gt=0, lt=10)
    name: str = Field(default="x", min_length=1, max_length=3)
    ratio: float = 1.0


class Outer(BaseModel):
    inner: list[Inner] = []
    either: str | list[str] | None = None
    needed: int


def messages(data: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(data)
    return [f"{path} {message}" for path, _, message in plain_errors(caught.value, data)]


def test_messages_have_plain_words_and_the_path_in_the_file() -> None:
    data = {
        "inner": [{"size": 0, "name": "", "ratio": "x"}, {"size": 10, "name": "long"}, 5],
        "either": {"a": 1},
    }
    assert messages(data) == [
        "('inner', 0, 'size') must be more than 0",
        "('inner', 0, 'name') is empty",
        "('inner', 0, 'ratio') expected a number, found \"x\"",
        "('inner', 1, 'size') must be less than 10",
        "('inner', 1, 'name') is longer than 3 characters",
        "('inner', 2) expected keys and values, found 5",
        "('either',) expected text, found keys and values",
        "('needed',) is missing",
    ]


def test_an_unknown_type_of_error_is_still_a_sentence() -> None:
    class Odd(BaseModel):
        value: complex

    with pytest.raises(ValidationError) as caught:
        Odd.model_validate({"value": "x"})
    [(_, _, message)] = plain_errors(caught.value, {"value": "x"})
    assert message[0].islower()


def test_possible_passwords_are_not_quoted() -> None:
    class Login(BaseModel):
        users: dict[str, str] = {}
        secret: int = 0
        config: Inner = Inner()

    data = {"users": "ann:hunter2", "secret": "hunter2", "config": "secret=hunter2"}
    with pytest.raises(ValidationError) as caught:
        Login.model_validate(data)
    assert [message for _, _, message in plain_errors(caught.value, data)] == [
        "expected keys and values, found text",
        "expected a whole number, found text",
        "expected keys and values, found text",
    ]


def test_descriptions_of_values() -> None:
    values: tuple[object, ...] = (None, True, False, "a\n", 1, 2.5, [1], {}, object())
    assert [describe(value) for value in values] == [
        "nothing",
        "true",
        "false",
        '"a\\n"',
        "1",
        "2.5",
        "a list",
        "keys and values",
        "something else",
    ]
