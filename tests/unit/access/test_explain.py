from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.access.credentials import (
    HOST,
    NOW,
    PIN,
    app,
    link,
    machine,
    pass_of,
    request,
    sign_in,
    table,
    token_of,
    user,
)
from zerotrust.access.explain import Explanation, explain
from zerotrust.access.gate import VerdictKind
from zerotrust.access.subject import Credential
from zerotrust.errors import ForwardError

LAB: dict[str, Any] = {
    "hosts": ["*.lab.example.com", HOST],
    "allow": [{"group": "family"}, {"user": "eve", "until": "2027-03-31", "path": "/eve/*"}],
    "deny": [{"group": "kids", "path": "/config/*"}],
    "require": [{"ip": ["192.0.2.0/24"]}],
    "max_age": "12h",
    "links": True,
    "paths": [{"match": ["/admin/*"], "allow": [{"group": "ops"}]}],
}
OTHER = {"hosts": ["other.example.com"], "allow": "nobody"}


def explained(credential: Credential | None, **about: Any) -> Explanation:
    host = about.pop("host", HOST)
    return explain(table(OTHER, LAB), host, credential, request(**about))


def lines(explanation: Explanation) -> list[str]:
    return [str(step) for step in explanation.steps]


def test_each_step_of_a_verdict_is_told() -> None:
    anna = pass_of(user(), proven_at=NOW)
    found = explained(anna, target="/x")
    assert (found.kind, found.reason) == (VerdictKind.ALLOW, "rules[1].allow")
    assert lines(found) == [
        "     rules[1]: app.example.com is judged by app.example.com",
        "     credential: user anna, groups: family",
        "no   rules[1].deny[0]: group kids, at /config/* (group not fulfilled)",
        "yes  rules[1].require[0]: from 192.0.2.0/24",
        "no   rules[1].paths[0].allow: the path matches",
        "yes  rules[1].allow[0]: group family",
    ]


def test_conditions_are_told_in_the_order_of_the_file() -> None:
    allow = [{"group": "ops"}, {"machine": "ci-*"}, {"path": "/x", "user": "eve"}, {"pin": True}]
    found = explain(table({"hosts": [HOST], "allow": allow}), HOST, pass_of(user()), request())
    places = [step.place for step in found.steps if "allow" in step.place]
    assert places == [f"rules[0].allow[{index}]" for index in range(4)]


def test_the_steps_end_with_the_one_that_decides() -> None:
    carla = pass_of(user("carla", groups=frozenset({"kids"})))
    found = explained(carla, target="/config/x")
    assert (found.kind, found.reason) == (VerdictKind.DENY, "rules[1].deny[0]")
    assert lines(found)[-1] == "yes  rules[1].deny[0]: group kids, at /config/*"
    outside = explained(pass_of(user()), client="198.51.100.1")
    assert (outside.kind, outside.reason) == (VerdictKind.DENY, "rules[1].require[0]")
    assert lines(outside)[-1] == "no   rules[1].require[0]: from 192.0.2.0/24 (ip not fulfilled)"


def test_paths_old_proofs_and_strangers() -> None:
    admin = explained(pass_of(user()), target="/admin/x")
    assert lines(admin)[-2:] == [
        "yes  rules[1].paths[0].allow: the path matches",
        "no   rules[1].paths[0].allow[0]: group ops (group not fulfilled)",
    ]
    old = explained(pass_of(user(), proven_at=NOW - 43300))
    assert old.kind is VerdictKind.PROVE_AGAIN
    assert lines(old)[-1] == (
        "no   rules[1].max_age: identity proven within 43200 s; it was 43300 s ago"
    )
    stranger = explained(None)
    assert (stranger.kind, stranger.reason) == (VerdictKind.SIGN_IN, "rules[1].allow")
    assert lines(stranger)[1] == "     credential: none: not signed in"


def test_credentials_that_do_not_count() -> None:
    other = explained(pass_of(user(), host="other.example.com"))
    assert lines(other)[1] == (
        "     credential: user anna, groups: family, which does not count: it is for another host"
        " name"
    )
    ended = explained(pass_of(user(), sign_in=sign_in(user(), ends_at=NOW)))
    assert lines(ended)[1].endswith("which does not count: session ended")


def test_links_machines_and_apps() -> None:
    assert lines(explained(pass_of(link(), path="/album"), target="/album/1"))[-1] == (
        "yes  rules[1].links: the share link opens /album"
    )
    assert lines(explained(pass_of(link()), target="/album/1"))[-1] == (
        "yes  rules[1].links: the share link opens /"
    )
    assert lines(explained(pass_of(link(), path="/album"), target="/"))[-1].startswith("no ")
    closed = explain(
        table({"hosts": [HOST], "allow": [{"group": "x"}]}), HOST, pass_of(link()), request()
    )
    assert lines(closed)[-1] == "no   rules[0].links: no share links"
    assert lines(explained(token_of(machine("ci"))))[1] == "     credential: machine ci"
    assert lines(explained(pass_of(PIN)))[1] == "     credential: pin pin:app.example.com"
    phone = explained(token_of(app("phone", user(groups=frozenset()))))
    assert lines(phone)[1] == "     credential: app phone of user anna, groups: none"


def test_places_of_hosts_without_a_rule() -> None:
    gates = table(OTHER, admin_host="admin.example.com")
    for host, place in (
        ("auth.example.com", "auth_host"),
        ("admin.example.com", "admin_host"),
        ("x.example.com", "default"),
        ("other.example.com", "rules[0]"),
    ):
        found = explain(gates, host, None, request())
        assert found.reason == f"{place}.allow"
        assert lines(found)[-1] == f"no   {place}.allow: no one may enter"
    public = explain(table(default="public"), HOST, None, request())
    assert (public.kind, public.reason) == (VerdictKind.ALLOW, "default")


def test_a_request_that_cannot_be_judged() -> None:
    found = explained(pass_of(user()), target="//admin/x")
    assert (found.kind, found.error) == (None, "ambiguous_path")
    assert found.steps[-1].place == "rules[1]"


CREDENTIALS = st.sampled_from(
    [
        None,
        pass_of(user(), proven_at=NOW),
        pass_of(user(), proven_at=0),
        pass_of(user("eve", groups=frozenset({"kids"})), proven_at=NOW),
        pass_of(link(user("carla", groups=frozenset({"kids"}))), path="/eve"),
        pass_of(PIN),
        token_of(machine("ci")),
        token_of(app("phone", user())),
    ]
)


@given(
    CREDENTIALS,
    st.sampled_from(["/", "/eve/x", "/config/x", "/admin/x", "//config/x", "/eve;x/..", "//eve"]),
    st.sampled_from(["192.0.2.7", "10.0.0.1", ""]),
    st.sampled_from([NOW, NOW + 30_000_000]),
)
@pytest.mark.parametrize(
    "rule", [LAB, {"hosts": [HOST], "allow": "anyone", "deny": [{"ip": "10.0.0.0/8"}]}]
)
def test_the_explanation_agrees_with_the_verdict(
    rule: dict[str, Any], credential: Credential | None, target: str, client: str, now: float
) -> None:
    gates = table(rule)
    gate = gates.find(HOST)
    assert gate is not None
    found = explain(gates, HOST, credential, request(target, client=client, now=now))
    try:
        verdict = gate.judge(credential, request(target, client=client, now=now))
    except ForwardError as error:
        assert (found.kind, found.error) == (None, error.code)
        return
    assert (found.kind, found.error) == (verdict.kind, "")
    decided = {step.held for step in found.steps if step.place.endswith(verdict.reason)}
    if verdict.kind is not VerdictKind.ALLOW and "paths" not in verdict.reason:
        assert decided <= {verdict.reason.startswith("deny")}
