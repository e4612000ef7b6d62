"""Tests of zerotrust.config.check."""

from pathlib import Path

import pytest

from zerotrust.config.check import RESERVE, contradictions
from zerotrust.config.diagnostics import dotted
from zerotrust.config.load import check
from zerotrust.config.yaml_text import parse


def messages(text: str) -> list[str]:
    return [f"{dotted(path)}: {message}" for path, _, message in contradictions(parse(text))]


def test_two_services_need_two_ids_and_two_names() -> None:
    text = """
services:
  - {id: a, hostname: one.example.com, backend: "x:1"}
  - {id: a, hostname: ONE.example.com., backend: "x:1"}
"""
    assert messages(text) == [
        'services[1].id: the id "a" is used by another service, on line 3; each needs its own',
        (
            'services[1].hostname: the host name "one.example.com" is used by another service, on'
            " line 3; each needs its own"
        ),
    ]


def test_a_service_may_name_a_host_twice() -> None:
    assert messages('services: [{hostname: a.b, hosts: [A.b, c.d, c.d], backend: "x:1"}]') == []


def test_the_short_form_has_its_host_name_as_id() -> None:
    clash = "is used by another service, on line 1; each needs its own"
    assert messages(
        'services: [{hostname: a.b, backend: "x:1"}, {id: a.b, hostname: c.d, backend: "x:1"}]'
    ) == [f'services[1].id: the id "a.b" {clash}']
    assert messages(
        'services: [{id: a.b, hostname: c.d, backend: "x:1"}, {hostname: a.b, backend: "x:1"}]'
    ) == [f'services[1].hostname: the id "a.b" {clash}']
    assert messages(
        'services: [{hostname: a.b, backend: "x:1"}, {hostname: a.b, backend: "x:1"}]'
    ) == [f'services[1].hostname: the host name "a.b" {clash}']


def test_wrong_types_are_left_to_the_models() -> None:
    assert (
        messages(
            'services: [5, {hostname: [a], hosts: "x", upstreams: 1}, {hosts: ["a b", 7], backend:'
            ' "x:1"}]'
        )
        == []
    )


def test_a_service_lacks_what_it_needs() -> None:
    assert len(messages("services: [{}]")) == 2
    assert messages("services: []") == ["services: no services: this agent publishes nothing"]


@pytest.mark.parametrize("redirect", ["true", "True", "yes", "on", "1", "y", '"true"', "1.0"])
@pytest.mark.parametrize("listen_on", ["http", "https", "both"])
def test_a_redirect_needs_https(tmp_path: Path, redirect: str, listen_on: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        f"services:\n  - {{hostname: a.test, backend: 'x:1', listen_on: {listen_on}, http_redirect:"
        f" {redirect}}}\n"
    )
    messages = [(problem.key, problem.severity) for problem in check(path)]
    assert messages == ([("services[0].http_redirect", "error")] if listen_on == "http" else [])


REACHED_BEFORE = [
    "{}",
    "{match: {path: }}",
    "{match: {path: '*', headers: {X-Debug: }}}",
    "{match: {method: []}, handle: [{type: headers, config: {}}]}",
]


@pytest.mark.parametrize("first", REACHED_BEFORE)
@pytest.mark.parametrize(
    ("behind", "severity"),
    [
        ("{match: {path: /a}, handle: [{type: ip_deny}]}", "error"),
        ("{match: {path: /a}, handle: [{type: Reverse-Proxy}]}", "warning"),
        ("{match: {path: /a}}", "warning"),
    ],
)
def test_a_route_after_one_for_everything_is_never_reached(
    first: str, behind: str, severity: str
) -> None:
    text = (
        f'services: [{{hostname: a.b, backend: "x:1", routes: [{{match: {{path: /x}}}}, {first},'
        f" {behind}]}}]"
    )
    message = (
        "is never reached: the route on line 1 matches the same requests; move this one before it"
    )
    assert list(contradictions(parse(text))) == [(("services", 0, "routes", 2), severity, message)]


def test_reachable_and_invalid_routes_are_not_reported() -> None:
    routes = (
        "5, {match: 5}, {match: {path: x}}, {match: {pth: /}}, {mtch: 1}, {match: {path: /a}},"
        " {match: {method: GET}}"
    )
    assert (
        messages(f'services: [{{hostname: a.b, backend: "x:1", routes: [{routes}, {{}}]}}]') == []
    )


@pytest.mark.parametrize(("weight", "said_of"), [("0", 1), ('"0"', 1), ("1", 0), ("[0]", 0)])
def test_a_weight_of_0_is_warned_about(weight: str, said_of: int) -> None:
    text = (
        f'services: [{{hostname: a.b, upstreams: [{{address: "x:1", weight: {weight}}}, {{address:'
        ' "y:1"}, 5]}]'
    )
    found = [(("services", 0, "upstreams", 0, "weight"), "warning", RESERVE)] * said_of
    assert list(contradictions(parse(text))) == found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x:80", "http://x", True),
        ("x:80", "wss://x:80", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("x", "x", False),
    ],
)
def test_duplicate_backends_are_refused(one: str, other: str, same: bool) -> None:
    text = (
        f'services: [{{hostname: a.b, upstreams: [{{address: "{one}"}}, {{address: "{other}"}}]}}]'
    )
    message = "is the same backend as on line 1; list it once, with a higher weight"
    assert messages(text) == ([f"services[0].upstreams[1].address: {message}"] if same else [])


def test_an_unknown_protocol_is_left_to_the_models() -> None:
    assert (
        messages(
            'services: [{hostname: a.b, protocol: smtp, upstreams: [{address: "x:1"}, {address:'
            ' "x:1"}]}]'
        )
        == []
    )


def test_a_policy_that_costs_too_much(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    secret = "s" * 32
    jwt = f"{{type: jwt, config: {{algorithm: HS256, secret: {secret}}}}}"
    service = (
        '- {{hostname: {}.b, backend: "x:1", routes: [{{}}, {{match: {{path: /x}}, handle:'
        " [{}]}}]}}"
    )
    few, many = service.format("a", jwt), service.format("c", ", ".join([jwt] * 5))
    path.write_text(f"agent_id: a\nservices:\n  {few}\n  {many}\n")
    (problem,) = [problem for problem in check(path) if "may take" in problem.message]
    assert str(problem).startswith(f"{path}:4:")
    assert "services[1].routes[1].handle: the policy may take 3.0 ms" in str(problem)
    assert problem.severity == "error"
    path.write_text(
        f"agent_id: a\nglobal_middleware: [{', '.join([jwt] * 5)}]\nservices:\n  {few}\n  {few}\n"
    )
    places = [dotted(problem.path) for problem in check(path) if "may take" in problem.message]
    assert places == ["global_middleware"]
