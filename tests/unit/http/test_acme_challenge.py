"""Tests of zerotrust.http.acme_challenge."""

import pytest

from zerotrust.http.acme_challenge import (
    MAX_KEY_AUTHORIZATION,
    challenge_of,
    is_key_authorization,
    member_target,
)
from zerotrust.http.head import parse_request

TOKEN = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
PREFIX = "/.well-known/acme-challenge/"
THUMBPRINT = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


def asked(start: str, *fields: str) -> tuple[bytes, bool] | None:
    lines = [f"{start} HTTP/1.1", "Host: app.example.com", *fields, "", ""]
    return challenge_of(parse_request("\r\n".join(lines).encode()))


def test_an_authority_and_another_server_ask_for_a_token() -> None:
    assert asked(f"GET {PREFIX}{TOKEN}") == (TOKEN.encode(), False)
    assert asked(f"GET {member_target(TOKEN.encode()).decode()}") == (TOKEN.encode(), True)


@pytest.mark.parametrize(
    "start",
    [
        f"GET {PREFIX}",
        f"GET {PREFIX}short",
        f"GET {PREFIX}{'x' * 129}",
        f"GET {PREFIX}{TOKEN}/",
        f"GET {PREFIX}{TOKEN}?a=b",
        f"GET {PREFIX}{TOKEN}%2e",
        f"GET {PREFIX}../{TOKEN}",
        f"GET /{TOKEN}",
        f"HEAD {PREFIX}{TOKEN}",
        f"POST {PREFIX}{TOKEN}",
    ],
)
def test_anything_else_is_no_challenge(start: str) -> None:
    assert asked(start) is None


def test_an_upgrade_is_no_challenge() -> None:
    assert asked(f"GET {PREFIX}{TOKEN}", "Connection: Upgrade", "Upgrade: websocket") is None


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        (f"{TOKEN}.{THUMBPRINT}", True),
        (f"{TOKEN}.{THUMBPRINT}\n", False),
        (f"{TOKEN}.{THUMBPRINT[1:]}", False),
        (f"{TOKEN}.{THUMBPRINT[1:]}<", False),
        (f"{TOKEN[1:]}.{THUMBPRINT}", False),
        (f"{TOKEN}{THUMBPRINT}", False),
        (TOKEN, False),
        ("", False),
    ],
)
def test_a_key_authorization_is_for_its_token(body: str, valid: bool) -> None:
    assert is_key_authorization(body.encode(), TOKEN.encode()) is valid


def test_the_longest_key_authorization_has_a_bound() -> None:
    assert len(f"{'x' * 128}.{THUMBPRINT}") == MAX_KEY_AUTHORIZATION
