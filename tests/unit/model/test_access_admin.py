"""Tests of zerotrust.model.access_admin."""

import pytest
from pydantic import ValidationError

from zerotrust.model.access_admin import CreatedInvitation, CreateLinkRequest, SetPinRequest


@pytest.mark.parametrize("pin", ["123456", " 123456\n", "0" * 32])
def test_a_pin_has_6_to_32_digits(pin: str) -> None:
    assert SetPinRequest.model_validate({"host": "A.example", "pin": pin}).pin == pin.strip()


@pytest.mark.parametrize(
    "pin", ["", "12345", "0" * 33, "12345a", "١٢٣٤٥٦", "12 3456", 123456, None]
)
def test_other_pins_are_refused(pin: object) -> None:
    with pytest.raises(ValidationError, match="6 to 32 digits"):
        SetPinRequest.model_validate({"host": "a.example", "pin": pin})


def test_a_link_may_have_no_pin() -> None:
    assert CreateLinkRequest(url="https://a.example/").pin is None


def test_secrets_are_not_in_the_repr() -> None:
    link = CreateLinkRequest(url="https://a.example/", pin="836251")
    assert "836251" not in repr(link)
    assert "836251" not in repr(SetPinRequest(host="a.example", pin="836251"))
    made = CreatedInvitation(user="anna", url="https://auth.example/invite#0t_i_x", expires_at=1)
    assert "0t_i_x" not in repr(made)
