from typing import Any

import pytest

from zerotrust.access.rule_words import condition_words, rule_words, who_may_enter
from zerotrust.model.access import Access, Rule
from zerotrust.model.condition import Condition


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"allow": "nobody"}, "no one"),
        ({"allow": "anyone"}, "everyone"),
        ({"allow": "signed_in"}, "everyone who has signed in"),
        ({"allow": [{"group": "family"}, {"machine": "frame"}]}, "group family or machine frame"),
        (
            {"allow": [{"user": "a"}], "deny": [{"group": "kids", "path": "/x"}], "links": True},
            "user a; never group kids, at /x; share links",
        ),
        (
            {"allow": [{"pin": True}], "require": [{"country": ["DE", "AT"]}]},
            "with the PIN; only country DE | AT",
        ),
        (
            {"allow": "signed_in", "max_age": "90s", "preflights": "backend"},
            "everyone who has signed in; identity proven within 90s; CORS preflights of everyone",
        ),
        (
            {
                "allow": "nobody",
                "profile": "home_assistant",
                "paths": [{"match": ["/a", "/b"], "allow": "signed_in", "fresh": "1d"}],
            },
            "no one; /a, /b: everyone who has signed in (proven within 1d);"
            " POST /api/webhook/* is open to everyone, 300 requests a minute from one client"
            " network",
        ),
    ],
)
def test_rules_in_words(rule: dict[str, Any], words: str) -> None:
    assert rule_words(Rule.model_validate({"hosts": ["a.example.com"], **rule})) == words


def test_conditions_in_words() -> None:
    condition = Condition.model_validate(
        {
            "user": ["a", "b", "c", "d", "e"],
            "email": "a@example.com",
            "email_domain": "example.com",
            "provider": "main",
            "claim": {"x": ["y", "z"]},
            "method": "passkey",
            "ip": "10.0.0.0/8",
            "until": "2027-03-31",
        }
    )
    assert condition_words(condition) == (
        "user a | b | c | … (5 in all), email a@example.com, email domain example.com,"
        " provider main, claim x y | z, from 10.0.0.0/8, signed in by passkey, until 2027-03-31"
    )


def test_who_may_enter_each_host() -> None:
    access = Access.model_validate(
        {
            "auth_host": "auth.example.com",
            "admin_host": "admin.example.com",
            "admins": [{"group": "admins"}],
            "rules": [{"hosts": ["a.example.com", "*.b.example.com"], "allow": "anyone"}],
        }
    )
    assert [str(entry) for entry in who_may_enter(access)] == [
        "a.example.com: everyone",
        "*.b.example.com: everyone",
        "admin.example.com: the dashboard, for group admins",
        "every other host name: no one",
    ]
    seen = access.model_copy(update={"admins": [], "viewers": [Condition(user=["ben"])]})
    assert seen.admin_host
    assert who_may_enter(seen)[2].words == "the dashboard, for no one; to read, user ben"
    public = access.model_copy(update={"admin_host": None, "default": "public"})
    assert who_may_enter(public)[-1].words == "everyone, without signing in"
