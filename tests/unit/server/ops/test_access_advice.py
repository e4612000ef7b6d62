"""Tests of zerotrust.server.ops.access_advice."""

from typing import Any

from zerotrust.model.access import Access
from zerotrust.model.service_access import ServiceAccess
from zerotrust.server.ops.access_advice import (
    did_you_mean,
    example_host,
    link_warnings,
    named_groups,
    token_hosts,
)


def access(*rules: dict[str, Any], **said: Any) -> Access:
    return Access.model_validate({"auth_host": "auth.example.com", "rules": rules, **said})


def test_groups_are_named_anywhere() -> None:
    found = named_groups(
        access(
            {
                "hosts": ["a.example"],
                "allow": [{"group": ["a", "b"]}],
                "deny": [{"group": "c"}],
                "require": [{"group": "d"}],
                "paths": [{"match": ["/x"], "allow": [{"group": "e"}]}],
            },
            {"hosts": ["b.example"], "allow": "signed_in"},
            admins=[{"group": "f"}],
            viewers=[{"group": "g"}],
        )
    )
    assert found == set("abcdefg")


def test_host_names_of_a_token() -> None:
    found = access(
        {"hosts": ["a.example", "*.a.example"], "allow": [{"machine": ["ci-*", "x"]}]},
        {"hosts": ["b.example"], "allow": [{"app": "ci-1"}]},
        {"hosts": ["c.example"], "allow": [{"machine": "ci-1", "ip": "10.0.0.0/8"}]},
    )
    assert token_hosts(found, "machine", "ci-1", []) == ["a.example", "*.a.example", "c.example"]
    assert token_hosts(found, "machine", "ci-1", ["c.example"]) == ["c.example"]
    assert token_hosts(found, "machine", "other", []) == []
    assert token_hosts(found, "app", "ci-1", []) == ["b.example"]
    assert example_host(["*.a.example", "c.example"]) == "c.example"
    assert example_host(["*.a.example"]) is None


def test_links_that_open_nothing() -> None:
    rules = access(
        {"hosts": ["a.example"], "allow": "signed_in", "require": [{"ip": "10.0.0.0/8"}]},
        {"hosts": ["b.example"], "allow": "signed_in", "require": [{"signed_in": True}]},
    ).rules
    open_one = ServiceAccess.model_validate({"require": [{"ip": "10.0.0.0/8"}]})
    narrow = ServiceAccess.model_validate({"require": [{"group": "family"}]})
    assert link_warnings(rules[0], "", None) == link_warnings(rules[0], "home", open_one) == []
    assert "`require` of the rule" in link_warnings(rules[1], "", None)[0]
    assert "agent home" in link_warnings(rules[0], "home", narrow)[0]


def test_suggestions() -> None:
    assert did_you_mean("ana", ["anna", "ben"]) == ', did you mean "anna"?'
    assert did_you_mean("zoe", ["anna", "ben"]) == ""
