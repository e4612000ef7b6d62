from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from zerotrust.model.condition import (
    Allow,
    Condition,
    alternatives,
    check_allow,
    refuse_unknown_country,
)

ALLOW: TypeAdapter[Allow] = TypeAdapter(Allow)


def test_a_value_may_be_one_or_a_list() -> None:
    one = Condition.model_validate({"group": "family", "ip": "10.0.0.1", "claim": {"a": "b"}})
    many = Condition.model_validate(
        {"group": ["family"], "ip": ["10.0.0.1"], "claim": {"a": ["b"]}}
    )
    assert one == many
    assert one.given == {"group": ["family"], "claim": {"a": ["b"]}, "ip": ["10.0.0.1/32"]}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"anyone": True, "user": "anna"},
        {"machine": "x", "group": "y"},
        {"machine": "x", "app": "y"},
        {"pin": True, "signed_in": True},
        {"anyone": False},
        {"group": []},
        {"claim": {}},
        {"grup": "x"},
    ],
)
def test_conditions_that_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Condition.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "about_subjects"),
    [
        ({"anyone": True}, False),
        ({"ip": "10.0.0.0/8", "path": "/x", "country": "DE"}, False),
        ({"signed_in": True, "ip": "10.0.0.0/8"}, True),
        ({"machine": "x"}, True),
        ({"pin": True}, True),
        ({"method": "passkey"}, True),
    ],
)
def test_conditions_about_subjects(keys: dict[str, Any], about_subjects: bool) -> None:
    assert Condition.model_validate(keys).names_subjects is about_subjects


def test_allow() -> None:
    assert alternatives(ALLOW.validate_python("nobody")) == []
    assert alternatives(ALLOW.validate_python("anyone")) == [Condition(anyone=True)]
    assert alternatives(ALLOW.validate_python("signed_in")) == [Condition(signed_in=True)]
    written = [{"group": "family"}, {"machine": "frame"}]
    assert [item.given for item in alternatives(ALLOW.validate_python(written))] == [
        {"group": ["family"]},
        {"machine": ["frame"]},
    ]
    refused: list[Any] = [[], "everybody", {}, 5, None, [{}]]
    for wrong in refused:
        with pytest.raises(ValidationError):
            ALLOW.validate_python(wrong)


def test_a_condition_of_allow_says_who() -> None:
    check_allow("nobody")
    check_allow([Condition(ip=["10.0.0.0/8"]), Condition(country=["DE"])])
    for keys in ({"until": "2027-01-01"}, {"path": "/x"}, {"path": "/x", "until": "2027-01-01"}):
        with pytest.raises(ValueError, match=r"viewers\[0\] says when or where"):
            check_allow([Condition.model_validate(keys)], "viewers")
    with pytest.raises(ValueError, match="unknown never holds"):
        check_allow([Condition(country=["unknown"])])
    refuse_unknown_country([Condition(country=["DE"])], "require")
