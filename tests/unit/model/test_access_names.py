import datetime
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from zerotrust.model import access_names as names


@pytest.mark.parametrize(
    ("check", "text", "result"),
    [
        (names.check_name, "anna.b_c-1", "anna.b_c-1"),
        (names.check_group, "family", "family"),
        (names.check_group_reference, "family", "family"),
        (names.check_group_reference, "main/Ops Team/x", "main/Ops Team/x"),
        (names.check_provider, "main-1_x", "main-1_x"),
        (names.check_email, " Anna.B+x@Example.COM", "anna.b+x@example.com"),
        (names.check_email, "anna@bücher.example", "anna@xn--bcher-kva.example"),
        (names.check_email_domain, "Example.com.", "example.com"),
        (names.check_domain, "Auth.Example.com", "auth.example.com"),
        (names.check_domain, "auth.localhost", "auth.localhost"),
    ],
)
def test_names(check: Callable[[str], str], text: str, result: str) -> None:
    assert check(text) == result


@pytest.mark.parametrize(
    ("check", "texts"),
    [
        (names.check_name, ["", "a b", "a/b", "ä", "a" * 65, "a\n"]),
        (names.check_group, ["", "main/ops", "a b"]),
        (
            names.check_group_reference,
            ["", "/ops", "main/", "Main/ops", "main/\n", "main/" + "a" * 256],
        ),
        (names.check_provider, ["", "Main", "a.b", "a" * 33]),
        (
            names.check_email,
            ["", "a", "a@", "@b.de", "a@b@c.de", "a b@c.de", "é@c.de", "a@b", "a@1.2.3.4"],
        ),
        (names.check_email_domain, ["", "localhost", "a b.de", "x.de:1", "[::1]", "*.de"]),
        (
            names.check_domain,
            ["", "*", "*.a.de", "a.de:1", "https://a.de", "1.2.3.4", "[::1]", "xn--a.de"],
        ),
    ],
)
def test_other_text_is_refused(check: Callable[[str], str], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError):
            check(text)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (names.Country, {"de": "DE", "UNKNOWN": "unknown"}, ["UK", "DEU", "", "1"]),
        (
            names.TokenPattern,
            {"ci-*": "ci-*", "Anna's phone": "Anna's phone"},
            ["", "a" * 65, "\n"],
        ),
        (
            names.UserReference,
            {"anna@example.com": "anna@example.com"},
            ["", " a", "a\n", "a" * 129],
        ),
        (
            names.Until,
            {
                "2027-03-31": datetime.date(2027, 3, 31),
                "2027-03-31T18:00:00Z": datetime.datetime(2027, 3, 31, 18, tzinfo=datetime.UTC),
            },
            ["2027", "2027-02-30", "tomorrow", 2027, None, []],
        ),
    ],
)
def test_types(kind: Any, good: dict[str, object], bad: list[object]) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    for text, value in good.items():
        assert adapter.validate_python(text) == value
        assert type(adapter.validate_python(value)) is type(value)
    for wrong in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def test_one_or_many() -> None:
    assert names.OneOrMany.func("a") == ["a"]  # type: ignore[call-arg]
    assert names.OneOrMany.func(["a"]) == ["a"]  # type: ignore[call-arg]
