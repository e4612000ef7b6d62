from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.access.credentials import (
    HOST,
    NOW,
    PIN,
    app,
    gate,
    kind,
    link,
    machine,
    pass_of,
    request,
    sign_in,
    table,
    token_of,
    user,
)
from tests.unit.access.gate_machine import GateMachine
from zerotrust.access.gate import Verdict, VerdictKind, pass_for
from zerotrust.errors import ClientAddressUnreadable
from zerotrust.routing.match import AmbiguousPath, PathTooLong

ALLOW, SIGN_IN = VerdictKind.ALLOW, VerdictKind.SIGN_IN
PROVE_AGAIN, DENY = VerdictKind.PROVE_AGAIN, VerdictKind.DENY
FAMILY = [{"group": "family"}]


def test_allow_lets_in_whom_one_condition_names() -> None:
    photos = gate([{"group": "family"}, {"machine": "frame"}])
    assert kind(photos, pass_of(user())) is ALLOW
    assert kind(photos, token_of(machine("frame"))) is ALLOW
    assert kind(photos, token_of(machine("frames"))) is DENY
    assert photos.judge(pass_of(user(groups=frozenset())), request()) == Verdict(DENY, "allow")
    assert photos.judge(None, request()) == Verdict(SIGN_IN, "allow")


@pytest.mark.parametrize(
    ("allow", "stranger", "known"),
    [("anyone", ALLOW, ALLOW), ("nobody", DENY, DENY), ("signed_in", SIGN_IN, ALLOW)],
)
def test_words_in_place_of_conditions(
    allow: str, stranger: VerdictKind, known: VerdictKind
) -> None:
    assert kind(gate(allow), None) is stranger
    assert kind(gate(allow), pass_of(user())) is known


def test_deny_beats_all() -> None:
    home = gate(FAMILY, deny=[{"group": "kids", "path": "/config/*"}])
    carla = pass_of(user("carla", groups=frozenset({"family", "kids"})))
    assert kind(home, carla, target="/states") is ALLOW
    assert home.judge(carla, request("/config/x?y")) == Verdict(DENY, "deny[0]")
    assert kind(home, pass_of(user()), target="/config/x") is ALLOW
    assert kind(gate("anyone", deny=[{"user": "carla"}]), carla) is DENY


def test_deny_counts_for_apps_and_links_of_a_user() -> None:
    carla = user("carla", groups=frozenset({"family", "kids"}))
    rule = gate(FAMILY, deny=[{"group": "kids"}], links=True)
    assert kind(rule, token_of(app("phone", carla))) is DENY
    assert kind(rule, pass_of(link(carla))) is DENY
    assert kind(rule, pass_of(link(user()))) is ALLOW
    assert kind(rule, pass_of(link())) is ALLOW


def test_require_holds_for_everybody() -> None:
    lab = gate("anyone", require=[{"ip": ["10.0.0.0/8", "2001:db8::/32"]}], links=True)
    for credential in (None, pass_of(user()), token_of(machine("x")), pass_of(link())):
        assert kind(lab, credential, client="10.1.2.3") is ALLOW
        assert kind(lab, credential, client="2001:db8::1") is ALLOW
        assert kind(lab, credential, client="::ffff:10.1.2.3") is ALLOW
        assert kind(lab, credential, client="192.0.2.7") is DENY
        assert kind(lab, credential, client="") is DENY


def test_require_of_a_person_asks_strangers_to_sign_in() -> None:
    rule = gate("anyone", require=[{"signed_in": True}, {"group": "family"}], links=True)
    assert kind(rule, None) is SIGN_IN
    assert kind(rule, pass_of(link(user()))) is SIGN_IN
    assert kind(rule, pass_of(PIN)) is SIGN_IN
    assert kind(rule, token_of(machine("x"))) is DENY
    assert rule.judge(pass_of(user(groups=frozenset())), request()).reason == "require[1]"
    assert kind(rule, pass_of(user())) is ALLOW
    assert kind(rule, token_of(app("phone", user()))) is ALLOW


def test_a_stranger_is_not_asked_to_sign_in_where_that_would_not_help() -> None:
    assert kind(gate([{"group": "family", "ip": "10.0.0.0/8"}]), None) is DENY
    assert kind(gate([{"group": "family", "ip": "10.0.0.0/8"}]), None, client="10.0.0.1") is SIGN_IN
    assert kind(gate([{"user": "eve", "until": "2026-01-01"}]), None) is DENY
    assert kind(gate([{"ip": "10.0.0.0/8"}]), None) is DENY


def test_the_first_of_paths_that_matches_replaces_allow() -> None:
    lab = gate(
        FAMILY,
        deny=[{"user": "mallory"}],
        paths=[
            {"match": ["/healthz", "/ready"], "allow": "anyone"},
            {"match": "/admin/public", "allow": "signed_in"},
            {"match": ["/admin/*"], "allow": [{"group": "ops"}]},
        ],
    )
    ben = pass_of(user("ben", groups=frozenset()))
    assert kind(lab, None, target="/healthz?deep=1") is ALLOW
    assert kind(lab, None, target="/ready") is ALLOW
    assert kind(lab, None, target="/healthz/") is SIGN_IN
    assert kind(lab, ben, target="/admin/public") is ALLOW
    assert lab.judge(ben, request("/admin/x")) == Verdict(DENY, "paths[2].allow")
    assert kind(lab, pass_of(user()), target="/admin") is DENY
    assert kind(lab, pass_of(user("mallory")), target="/healthz") is DENY


@pytest.mark.parametrize(
    "target",
    ["/a/%2e%2e/healthz", "/healthz%2f..", "//healthz", "/healthz;x", "/x%23/../healthz"],
)
def test_a_path_with_several_readings_opens_nothing(target: str) -> None:
    lab = gate(FAMILY, paths=[{"match": ["/healthz"], "allow": "anyone"}])
    with pytest.raises(AmbiguousPath):
        lab.judge(None, request(target))


def test_query_and_fragment_open_nothing() -> None:
    lab = gate(FAMILY, paths=[{"match": ["/healthz"], "allow": "anyone"}])
    for target in ("/x?/healthz", "/x?y=/healthz"):
        assert kind(lab, None, target=target) is SIGN_IN
    assets = gate(FAMILY, paths=[{"match": ["*.css", "*/healthz"], "allow": "anyone"}])
    assert kind(assets, None, target="/x.css?y") is ALLOW
    for target in ("/x?y.css", "/x?/healthz", "/x?#.css", "/x?y=/healthz"):
        assert kind(assets, None, target=target) is SIGN_IN


def test_a_remembered_verdict_is_that_of_this_gate_and_time() -> None:
    rule, other = gate(FAMILY, max_age=100), gate(FAMILY)
    credential = pass_of(user(), proven_at=NOW)
    assert not rule.remembers(credential, NOW)
    assert kind(rule, credential) is ALLOW
    assert rule.remembers(credential, NOW)
    assert not other.remembers(credential, NOW)
    assert not rule.remembers(credential, NOW + 100)
    credential.ended = "signed out"
    assert not rule.remembers(credential, NOW)


PIECES = ["/", "//", "\\", "healthz", "admin", "..", ".", ";x", "?", "#", "%68", "%2f", "%5c", "%2e", "%252f", "%23", "%3f", "%00", "%c0%af", "\t"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
@example("%68ealthz")
@example("admin/../healthz")
@example("admin#/healthz")
@example("admin%3f/healthz")
@example("healthz?x")
def test_no_spelling_of_another_path_is_open(rest: str) -> None:
    """A stranger gets only what is `/healthz` for each reader, not just for the gate."""
    lab = gate(FAMILY, paths=[{"match": ["/healthz"], "allow": "anyone"}])
    try:
        opened = kind(lab, None, target=f"/{rest}") is ALLOW
    except (AmbiguousPath, PathTooLong):
        return
    path = rest.partition("?")[0]
    assert opened is (path in ("healthz", "%68ealthz"))


def test_a_path_that_is_too_long_is_refused_only_where_paths_decide() -> None:
    long = "/" + "a" * 5000
    with pytest.raises(PathTooLong):
        gate(FAMILY, paths=[{"match": ["/b"], "allow": "anyone"}]).judge(None, request(long))
    assert kind(gate("anyone"), None, target=long) is ALLOW


def test_deny_by_an_address_that_is_unknown_is_an_error() -> None:
    rule = gate("anyone", deny=[{"ip": "192.0.2.0/24"}])
    assert kind(rule, None, client="192.0.2.7") is DENY
    assert kind(rule, None, client="198.51.100.1") is ALLOW
    with pytest.raises(ClientAddressUnreadable):
        rule.judge(None, request(client=""))


def test_a_pass_of_another_host_counts_as_none() -> None:
    rule = gate(FAMILY)
    assert kind(rule, pass_of(user(), host="other.example.com")) is SIGN_IN
    assert kind(rule, sign_in(user())) is SIGN_IN
    assert kind(rule, pass_for(sign_in(user()), HOST)) is ALLOW


def test_a_pass_of_a_sibling_below_the_same_wildcard_counts_as_none() -> None:
    gates = table({"hosts": ["*.lab.example.com"], "allow": FAMILY})
    one, two = gates.find("one.lab.example.com"), gates.find("two.lab.example.com")
    assert one is not None and two is not None
    credential = pass_of(user(), host="one.lab.example.com")
    for _ in range(2):
        assert kind(one, credential) is ALLOW
        assert kind(two, credential) is SIGN_IN


def test_a_token_is_good_for_its_hosts() -> None:
    gates = table({"hosts": ["*.lab.example.com", HOST], "allow": [{"machine": "ci-*"}]})
    one, other = gates.find("one.lab.example.com"), gates.find(HOST)
    assert one is not None and other is not None
    for hosts, expected in (
        ((), (ALLOW, ALLOW)),
        (("one.lab.example.com",), (ALLOW, SIGN_IN)),
        (("*.lab.example.com",), (ALLOW, SIGN_IN)),
        ((HOST,), (SIGN_IN, ALLOW)),
        (("*.example.com",), (SIGN_IN, ALLOW)),
    ):
        token = token_of(machine("ci-1"), *hosts)
        for _ in range(2):
            assert (kind(one, token), kind(other, token)) == expected


def test_a_credential_that_has_ended_counts_as_none() -> None:
    rule = gate(FAMILY)
    signed_in = sign_in(user(), ends_at=NOW + 100)
    anna = pass_of(user(), sign_in=signed_in)
    assert kind(rule, anna) is ALLOW
    assert kind(rule, anna, now=NOW + 101) is SIGN_IN
    signed_in.ended = "signed out"
    assert kind(rule, anna) is SIGN_IN


def test_links_open_their_prefix_where_the_rule_has_links() -> None:
    shared = pass_of(link(), path="/album/7", methods=("GET", "HEAD"))
    rule = gate(FAMILY, links=True)
    for target in ("/album/7", "/album/7/", "/album/7/1.jpg?size=big"):
        assert kind(rule, shared, target=target) is ALLOW
    for target in ("/album/70", "/album", "/", "/album/8"):
        assert kind(rule, shared, target=target) is SIGN_IN
    assert kind(rule, shared, target="/album/7", method="POST") is SIGN_IN
    assert kind(rule, shared, target="/album/7", method="head") is ALLOW
    assert kind(gate(FAMILY), shared, target="/album/7") is SIGN_IN
    for target in ("/album/7/%2e%2e/8", "/album/7%2f..%2f8", "/album/7;/../8"):
        with pytest.raises(AmbiguousPath):
            rule.judge(shared, request(target))
    with pytest.raises(AmbiguousPath):
        rule.judge(shared, request("/x//album/7"[2:]))


def test_links_do_not_open_paths_with_an_allow_of_their_own() -> None:
    rule = gate(
        FAMILY,
        links=True,
        paths=[
            {"match": ["/admin/*"], "allow": [{"group": "ops"}]},
            {"match": ["/open"], "allow": "anyone"},
        ],
    )
    everything = pass_of(link())
    assert kind(rule, everything, target="/x") is ALLOW
    assert kind(rule, everything, target="/admin/x") is SIGN_IN
    assert kind(rule, everything, target="/open") is ALLOW


def test_pins_open_where_a_condition_says_so() -> None:
    party = gate([{"pin": True}])
    assert party.asks_pin
    assert kind(party, pass_of(PIN)) is ALLOW
    assert kind(party, None) is SIGN_IN
    assert kind(party, pass_of(user())) is DENY
    assert not gate(FAMILY).asks_pin
    assert kind(gate(FAMILY), pass_of(PIN)) is SIGN_IN


def test_the_last_proof_of_identity_may_be_too_old() -> None:
    allow = [{"group": "family"}, {"machine": "ci"}, {"app": "phone", "user": "ben"}]
    rule = gate(allow, max_age="1h")
    signed_in = sign_in(user(), proven_at=NOW - 3600)
    anna = pass_of(user(), proven_at=NOW - 3700, sign_in=signed_in)
    assert rule.judge(anna, request()) == Verdict(PROVE_AGAIN, "allow")
    signed_in.proven_at = NOW - 3599
    assert kind(rule, anna) is ALLOW
    assert kind(rule, anna) is ALLOW
    assert kind(rule, anna, now=NOW + 1) is PROVE_AGAIN
    assert kind(rule, token_of(machine("ci"))) is ALLOW
    assert kind(rule, token_of(app("tablet", user()))) is PROVE_AGAIN
    assert kind(rule, token_of(app("phone", user("ben")))) is ALLOW
    assert kind(rule, pass_of(user("eve", groups=frozenset()))) is DENY


def test_no_proof_is_asked_where_strangers_may_enter() -> None:
    rule = gate(
        [{"group": "family"}, {"ip": "10.0.0.0/8"}],
        max_age="1h",
        paths=[{"match": ["/open"], "allow": "anyone"}],
    )
    anna = pass_of(user(), proven_at=NOW - 7200)
    assert kind(rule, anna) is PROVE_AGAIN
    assert kind(rule, anna, client="10.0.0.1") is ALLOW
    assert kind(rule, anna, target="/open") is ALLOW


def test_a_path_may_ask_for_a_fresher_proof() -> None:
    rule = gate(
        FAMILY,
        max_age="1h",
        paths=[{"match": ["/admin/*"], "allow": [{"group": "family"}], "fresh": "5m"}],
    )
    anna = pass_of(user(), proven_at=NOW - 600)
    assert kind(rule, anna) is ALLOW
    assert kind(rule, anna, target="/admin/x") is PROVE_AGAIN


def test_a_verdict_is_remembered_until_it_may_change() -> None:
    rule = gate([{"user": "anna", "until": "2027-03-31"}, {"user": "ben"}])
    end = 1_806_537_600.0  # 2027-04-01
    anna = pass_of(user(), ends_at=end + 10)
    assert kind(rule, anna, now=end - 1) is ALLOW
    assert anna.verdicts is not None and list(anna.verdicts.values()) == [end]
    assert kind(rule, anna, now=end - 1) is ALLOW
    assert kind(rule, anna, now=end) is DENY


@pytest.mark.parametrize(
    "rule",
    [
        {"allow": [{"group": "family", "ip": "192.0.2.0/24"}]},
        {"allow": [{"group": "family", "path": "/*"}]},
        {"allow": FAMILY, "require": [{"ip": "192.0.2.0/24"}]},
        {"allow": FAMILY, "deny": [{"ip": "10.0.0.0/8"}]},
        {"allow": FAMILY, "paths": [{"match": ["/x"], "allow": "nobody"}]},
    ],
)
def test_a_verdict_that_depends_on_the_request_is_not_remembered(rule: dict[str, Any]) -> None:
    anna = pass_of(user())
    assert kind(gate(**rule), anna) is ALLOW
    assert not anna.verdicts


def test_a_verdict_is_remembered_where_the_condition_on_the_request_is_about_others() -> None:
    anna = pass_of(user())
    rule = gate(
        [{"user": "ben", "ip": "10.0.0.0/8"}, {"group": "family"}],
        deny=[{"group": "kids", "path": "/config/*"}],
    )
    assert kind(rule, anna) is ALLOW
    assert anna.verdicts


def test_remembered_verdicts_are_bounded() -> None:
    gates = table({"hosts": ["*.lab.example.com"], "allow": [{"machine": "ci"}]})
    token = token_of(machine("ci"))
    for number in range(200):
        found = gates.find(f"h{number}.lab.example.com")
        assert found is not None
        assert kind(found, token) is ALLOW
    assert token.verdicts is not None and len(token.verdicts) <= 64


def test_groups_and_claims_that_the_rule_names() -> None:
    rule = gate(
        [{"group": ["a", "b"]}, {"claim": {"department": "it"}}],
        deny=[{"group": "c"}],
        require=[{"group": "d"}],
        paths=[{"match": ["/x"], "allow": [{"group": "main/e"}]}],
    )
    assert rule.named_groups == {"a", "b", "c", "d", "main/e"}
    assert rule.named_claims == {"department"}
    assert rule.rule.hosts == [HOST]


def test_the_profile_opens_the_webhooks_alone() -> None:
    rule = gate(FAMILY, profile="home_assistant", deny=[{"ip": "203.0.113.0/24"}])
    assert kind(rule, None, target="/api/webhook/abc", method="POST") is ALLOW
    assert kind(rule, None, target="/api/states") is SIGN_IN
    assert kind(rule, None, target="/api/webhook/abc") is SIGN_IN
    assert kind(rule, None, target="/api/webhook/abc", method="POST", client="203.0.113.1") is DENY
    with pytest.raises(AmbiguousPath):
        rule.judge(None, request("/api/webhook/..%2fstates", method="POST"))


@pytest.mark.large
@pytest.mark.timeout(90)
def test_no_request_passes_that_the_rules_read_naively_would_refuse() -> None:
    run_state_machine_as_test(GateMachine, settings=settings(stateful_step_count=30))
