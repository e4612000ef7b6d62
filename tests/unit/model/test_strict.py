"""Tests of zerotrust.model.strict."""

import pytest
from pydantic import ValidationError

from zerotrust.model.strict import Strict


class Limits(Strict):
    rate: str = ""
    burst: int = 1


@pytest.mark.parametrize(
    ("key", "messages"),
    [
        ("brust", 'unknown key "brust", did you mean "burst"?'),
        ("zzz", 'unknown key "zzz"; known keys are rate, burst'),
        ("x" * 200, '"' + "x" * 60 + '"'),
    ],
)
def test_an_unknown_key_is_refused_by_name(key: str, messages: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Limits.model_validate({key: 1})
    assert messages in str(caught.value)


def test_known_keys_pass() -> None:
    assert Limits.model_validate({"rate": "x"}).rate == "x"
    with pytest.raises(ValidationError):
        Limits.model_validate([("rate", "x")])
