"""Tests of zerotrust.server.portal.provider_account."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from zerotrust.errors import AccessRefused, ProviderFailed
from zerotrust.model.access import Access, IdentityProvider
from zerotrust.server.access.people import ProviderAccount
from zerotrust.server.portal.provider_account import (
    account_of,
    claims_in_rules,
    lacks,
    proof_time,
)

ANNA = {"sub": "7", "email": "anna@example.com", "email_verified": True, "name": "Anna"}
NONE: frozenset[str] = frozenset()


def provider(**said: Any) -> IdentityProvider:
    return IdentityProvider.model_validate(
        {"issuer": "https://sso.example.com", "client_id": "c", **said}
    )


def account(
    claims: dict[str, Any], *, named: frozenset[str] = NONE, **said: Any
) -> ProviderAccount:
    return account_of("main", provider(**said), {**ANNA, **claims}, named=named)


@pytest.mark.parametrize(
    ("claims", "trust", "verified"),
    [
        ({}, False, True),
        ({"email_verified": False}, False, False),
        ({"email_verified": False}, True, False),
        ({"email_verified": "true"}, False, False),
        ({"email_verified": 1}, True, False),
        ({"email_verified": None}, False, False),
        ({"email_verified": None}, True, True),
    ],
)
def test_an_address_is_believed_only_if_verified(
    claims: dict[str, Any], trust: bool, verified: bool
) -> None:
    assert account(claims, trust_email=trust).email_verified is verified


@pytest.mark.parametrize("email", [None, 7, ["a@b.c"], "a" * 255, "a@b.c\n"])
def test_an_unusable_address_is_none(email: object) -> None:
    found = account({"email": email})
    assert (found.email, found.email_verified) == (None, False)


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({}, "Anna"),
        ({"name": None, "preferred_username": "anna"}, "anna"),
        ({"name": "  "}, ""),
        ({"name": "A\x1b[31m\nB"}, "A[31mB"),
        ({"name": "x" * 300}, "x" * 200),
    ],
)
def test_the_shown_name(claims: dict[str, Any], name: str) -> None:
    assert account(claims).shown_name == name


def test_groups_that_no_rule_can_name_are_left_out() -> None:
    """Lists of users show the others: half of a surrogate pair is in no JSON, and no page."""
    groups = ["ops", "a\x00b", "\ud800", "\u202e", "line\nbreak", "\x1b[2J", "é"]
    assert account({"g": groups}, groups_claim="g").groups == ("ops", "é")


def test_500_groups() -> None:
    groups = [f"group-{number}" for number in range(500)]
    assert account({"groups": groups}, groups_claim="groups").groups == tuple(groups)


@pytest.mark.parametrize(
    ("value", "groups"),
    [
        ("one", ("one",)),
        (["a", 7, None, "a", "", "x" * 256, {"b": 1}], ("a",)),
        ([], ()),
    ],
)
def test_odd_groups_are_left_out(value: object, groups: tuple[str, ...]) -> None:
    assert account({"g": value}, groups_claim="g").groups == groups


@pytest.mark.parametrize("value", [7, {"a": 1}, True, ["a"] * 2001])
def test_unusable_groups(value: object) -> None:
    with pytest.raises(ProviderFailed, match="groups"):
        account({"g": value}, groups_claim="g")


def test_groups_inside_other_claims() -> None:
    claims = {"realm_access": {"roles": ["ops"]}, "https://example.com/groups": ["b"]}
    assert account(claims, groups_claim="realm_access.roles").groups == ("ops",)
    assert account(claims, groups_claim="https://example.com/groups").groups == ("b",)
    assert account(claims, groups_claim="sub.roles").groups == ()


def test_keycloaks_group_paths() -> None:
    assert account({"g": ["/a", "/a/b", "c"]}, groups_claim="g", kind="keycloak").groups == (
        "a",
        "a/b",
        "c",
    )
    assert account({"g": ["/a"]}, groups_claim="g").groups == ("/a",)


@pytest.mark.parametrize(
    ("claims", "event"),
    [
        ({}, "the provider sent no groups"),
        (
            {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {}}},
            "the user has too many groups for the token, so none counts",
        ),
    ],
)
def test_missing_groups_are_reported(claims: dict[str, Any], event: str) -> None:
    with capture_logs() as lines:
        assert account(claims, groups_claim="groups").groups == ()
    [line] = lines
    assert line["event"].startswith(event)
    assert (line["log_level"], line["provider"], line["claim"]) == ("warning", "main", "groups")


def test_only_claims_that_rules_name_are_kept() -> None:
    access = Access.model_validate(
        {
            "auth_host": "auth.example.com",
            "admins": [{"claim": {"role": "admin"}}],
            "rules": [
                {
                    "hosts": ["a.example.com"],
                    "allow": "signed_in",
                    "deny": [{"claim": {"left": "true"}}],
                    "paths": [{"match": ["/x"], "allow": [{"claim": {"level": ["1", "2"]}}]}],
                }
            ],
        }
    )
    named = claims_in_rules(access)
    assert named == {"role", "left", "level"}
    claims = {"role": "admin", "level": 2, "iban": "DE02", "left": None}
    assert account(claims, named=named).claims == {"role": "admin", "level": 2, "left": None}
    with pytest.raises(ProviderFailed, match="16 KiB"):
        account({"role": "x" * 20_000}, named=named)


def test_what_user_info_is_asked_for() -> None:
    config = provider(groups_claim="groups", sign_in=[{"claim": {"hd": "example.com"}}])
    assert lacks(config, {"sub": "7"}, frozenset({"role"})) == ["email", "hd", "role", "groups"]
    everything: dict[str, Any] = {"email": None, "hd": "", "role": 0, "groups": []}
    assert lacks(config, everything, frozenset({"role"})) == []


SIGN_IN: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"email": "anna@example.com"}, {}, True),
    ({"email": "anna@example.com"}, {"email": "Anna@Example.com"}, True),
    ({"email": "anna@example.com"}, {"email_verified": False}, False),
    ({"email": "anna@example.com"}, {"email": "ben@example.com"}, False),
    ({"email_domain": "example.com"}, {}, True),
    ({"email_domain": "example.com"}, {"email_verified": False}, False),
    ({"email_domain": "example.com"}, {"email": "a@example.com@evil.test"}, False),
    ({"email_domain": "example.com"}, {"email": "a@evil.test@example.com"}, False),
    ({"email_domain": "example.com"}, {"email": "a@sub.example.com"}, False),
    ({"email_domain": "example.com"}, {"email": None}, False),
    ({"group": "staff"}, {"g": ["staff"]}, True),
    ({"group": "staff"}, {"g": ["guests"]}, False),
    ({"claim": {"hd": "example.com"}}, {"hd": "example.com"}, True),
    ({"claim": {"hd": "example.com"}}, {}, False),
    ({"claim": {"active": "true", "level": ["2", "3"]}}, {"active": True, "level": 3}, True),
    ({"claim": {"active": "true"}}, {"active": 1}, False),
    ({"claim": {"roles": "a"}}, {"roles": ["b", "a"]}, True),
    ({"email": "anna@example.com", "group": "staff"}, {"g": []}, False),
]


@pytest.mark.parametrize(("condition", "claims", "fits"), SIGN_IN)
def test_who_may_sign_in(condition: dict[str, Any], claims: dict[str, Any], fits: bool) -> None:
    def sign_in() -> ProviderAccount:
        return account({"g": [], **claims}, groups_claim="g", sign_in=[condition])

    if fits:
        assert sign_in().subject == "7"
    else:
        with pytest.raises(AccessRefused, match="may not sign in here"):
            sign_in()


def test_one_of_the_list_is_enough() -> None:
    conditions = [{"email_domain": "other.example"}, {"email_domain": "example.com"}]
    assert account({}, sign_in=conditions).subject == "7"


@pytest.mark.parametrize(
    ("email", "hd", "fits"),
    [
        ("anna@example.com", "example.com", True),
        ("anna@example.com", None, False),
        ("anna@example.com", "other.example", False),
        ("anna@gmail.com", None, True),
    ],
)
def test_google_manages_the_domain(email: str, hd: str | None, fits: bool) -> None:
    """Google verifies addresses of other domains too, but does not learn that people have left."""
    config = IdentityProvider.model_validate(
        {
            "kind": "google",
            "client_id": "c",
            "sign_in": [{"email_domain": "example.com"}, {"email_domain": "gmail.com"}],
        }
    )
    claims = {**ANNA, "email": email, "hd": hd}
    if fits:
        assert account_of("google", config, claims, named=NONE).email == email
    else:
        with pytest.raises(AccessRefused):
            account_of("google", config, claims, named=NONE)


@pytest.mark.parametrize("session", [None, 7, "", "x" * 256])
def test_an_unusable_session_is_none(session: object) -> None:
    assert account({"sid": session}).session == ""
    assert account({"sid": "s1"}).session == "s1"


@pytest.mark.parametrize(
    ("value", "at"),
    [(None, 0.0), (True, 0.0), ("1", 0.0), (-1, 0.0), (1e300, 0.0), (float("nan"), 0.0), (5, 5.0)],
)
def test_the_time_of_the_proof(value: object, at: float) -> None:
    assert proof_time({"auth_time": value}) == at
