"""Tests of zerotrust.enrollment.grant_table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.enrollment.grant_table import GrantTable, parse_pattern
from zerotrust.model.base import normalise_host


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("app.example.com", "app.example.com"),
        (" App.Example.COM. ", "app.example.com"),
        ("*.Lab.example.com", "*.lab.example.com"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("nas", "nas"),
        ("*.lan", "*.lan"),
        ("*", "*"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:DB8::7]", "[2001:db8::7]"),
    ],
)
def test_patterns_are_normalised(written: str, meant: str) -> None:
    assert parse_pattern(written) == meant
    assert parse_pattern(meant) == meant


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "not a host name"),
        ("**", "whole first label"),
        ("*.", "not a host name"),
        ("*.*.example.com", "whole first label"),
        ("a.*.example.com", "whole first label"),
        ("a*.example.com", "whole first label"),
        ("*example.com", "whole first label"),
        ("https://a.example.com", "is a URL"),
        ("a.example.com/x", "is a URL"),
        ("a.example.com:443", "has a port"),
        ("*.example.com:443", "has a port"),
        ("[::1]:80", "has a port"),
        ("::1", "has a port"),
        ("*.0.0.1", "IP address cannot have a wildcard"),
        ("*.[::1]", "IP address cannot have a wildcard"),
        ("a b.example.com", "not a host name"),
        ("a..example.com", "not a host name"),
        ("-a.example.com", "not a host name"),
        ("[::g]", "hex digits"),
        ("x" * 64 + ".example.com", "not a host name"),
        ("a\0.example.com", "not a host name"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_pattern(written)


@pytest.mark.parametrize(
    ("pattern", "host", "meant"),
    [
        ("app.example.com", "app.example.com", True),
        ("app.example.com", "x.app.example.com", False),
        ("app.example.com", "example.com", False),
        ("*.lab.example.com", "a.lab.example.com", True),
        ("*.lab.example.com", "lab.example.com", False),
        ("*.lab.example.com", "a.b.lab.example.com", False),
        ("*.lab.example.com", "alab.example.com", False),
        ("*.example.com", "lab.example.com.evil.org", False),
        ("*.com", "example.com", True),
        ("*.lan", "lan", False),
    ],
)
def test_a_wildcard_stands_for_exactly_one_label(pattern: str, host: str, meant: bool) -> None:
    table = GrantTable()
    table.replace("file", [("home", pattern)])
    assert table.may_serve("home", host) is meant
    assert not table.may_serve("other", host)


def test_an_empty_table_grants_nothing() -> None:
    table = GrantTable()
    assert not table.may_serve("home", "app.example.com")
    assert not table.names("home", "app.example.com")


def test_sources_stand_beside_each_other_and_are_replaced_whole() -> None:
    table = GrantTable()
    table.replace("file", [("home", "a.example"), ("work", "*.b.example")])
    table.replace("database", [("home", "a.example"), ("lab", "a.example"), ("lab", "x.b.example")])
    agents = ("home", "work", "lab")
    assert [agent for agent in agents if table.may_serve(agent, "a.example")] == ["home", "lab"]
    assert [agent for agent in agents if table.may_serve(agent, "x.b.example")] == ["work", "lab"]
    table.replace("database", [])
    assert table.may_serve("home", "a.example")
    assert not table.may_serve("lab", "a.example")
    table.replace("file", [])
    assert not table.may_serve("home", "a.example")


@pytest.mark.parametrize("host", ["a.example", "example", "*.example", "192.0.2.7", "[::1]"])
def test_the_rest_is_granted_as_the_rest_alone(host: str) -> None:
    table = GrantTable()
    table.replace("file", [("home", "*"), ("work", host)])
    assert table.may_serve("home", "*")
    assert not table.may_serve("home", host)
    assert not table.may_serve("work", "*")
    assert table.overlaps() == []


def test_a_wildcard_is_granted_as_itself_alone() -> None:
    table = GrantTable()
    table.replace("file", [("home", "*.apps.example.com"), ("work", "a.apps.example.com")])
    assert table.may_serve("home", "*.apps.example.com")
    assert not table.may_serve("home", "*.b.apps.example.com")
    assert not table.may_serve("home", "*.example.com")
    assert not table.may_serve("work", "*.apps.example.com")


LABELS = st.sampled_from(["a", "b", "lab", "example", "com", "xn--bcher-kva"])
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.one_of(HOSTS, HOSTS.map(lambda name: f"*.{name}"))
GRANTS = st.lists(st.tuples(st.sampled_from(["home", "work", "lab"]), PATTERNS), max_size=12)


def said_by_labels(pattern: str, host: str) -> bool:
    """Return whether a pattern matches a host name, computed independently of the code."""
    wanted, found = pattern.split("."), host.split(".")
    return len(wanted) == len(found) and all(
        w in ("*", f) for w, f in zip(wanted, found, strict=True)
    )


@given(GRANTS, GRANTS, HOSTS)
def test_the_table_says_what_the_patterns_say(
    in_file: list[tuple[str, str]], in_database: list[tuple[str, str]], host: str
) -> None:
    table = GrantTable()
    table.replace("file", [("gone", host)])
    table.replace("file", in_file)
    table.replace("database", in_database)
    grants = in_file + in_database
    meant = {agent for agent, pattern in grants if said_by_labels(pattern, host)}
    assert {
        agent for agent in ("home", "work", "lab", "gone") if table.may_serve(agent, host)
    } == meant


@given(GRANTS)
def test_overlaps_are_names_of_two_agents_that_nobody_gave_both(
    grants: list[tuple[str, str]],
) -> None:
    table = GrantTable()
    table.replace("file", grants)
    assert table.overlaps() == sorted(
        {
            (wide, named)
            for wide in grants
            for named in grants
            if wide[1].startswith("*.")
            and not named[1].startswith("*.")
            and said_by_labels(wide[1], named[1])
            and wide[0] != named[0]
            and (wide[0], named[1]) not in grants
            and (named[0], wide[1]) not in grants
        }
    )


@given(st.text(max_size=40))
def test_a_pattern_or_a_reason_and_never_more_than_a_wildcard(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except ValueError:
        return
    assert parse_pattern(pattern) == pattern
    if pattern != "*":
        assert normalise_host(pattern.removeprefix("*.")) == pattern.removeprefix("*.")
