"""Tests of zerotrust.model.capture_admin."""

import pytest
from pydantic import ValidationError

from zerotrust.model.capture_admin import StartCaptureRequest


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ({}, "either a connection or a host name"),
        ({"host": "a.example.com", "connection": "x"}, "either a connection or a host name"),
        ({"host": "a.example.com", "reason": " "}, "say why"),
        ({"host": "a.example.com", "time": "11m"}, "from 1s to 10m"),
        ({"host": "a.example.com", "time": "0s"}, "from 1s to 10m"),
    ],
)
def test_requests_that_are_not_valid(asked: dict[str, str], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        StartCaptureRequest.model_validate({"reason": "why not", **asked})


def test_a_reason_is_kept_without_the_space_around_it() -> None:
    asked = StartCaptureRequest(host="a.example.com", reason=" it is empty ")
    assert (asked.reason, asked.time) == ("it is empty", 600.0)
