"""Tests of zerotrust.config.check."""

from zerotrust.config.check import crossings
from zerotrust.config.problems import dotted
from zerotrust.config.yaml_text import parse


def said(text: str) -> list[str]:
    return [f"{dotted(path)}: {message}" for path, _, message in crossings(parse(text))]


def test_two_services_need_two_ids_and_two_names() -> None:
    text = """
services:
  - {id: a, hostname: one.example.com, backend: "x:1"}
  - {id: a, hostname: ONE.example.com., backend: "x:1"}
"""
    assert said(text) == [
        'services[1].id: the id "a" is used by another service, on line 3; each needs its own',
        'services[1].hostname: the host name "one.example.com" is used by another service, on line 3; '
        "each needs its own",
    ]


def test_a_service_may_name_a_host_twice() -> None:
    assert said('services: [{hostname: a.b, hosts: [A.b, c.d, c.d], backend: "x:1"}]') == []


def test_the_simple_form_goes_by_its_host_name() -> None:
    clash = "is used by another service, on line 1; each needs its own"
    assert said('services: [{hostname: a.b, backend: "x:1"}, {id: a.b, hostname: c.d, backend: "x:1"}]') == [
        f'services[1].id: the id "a.b" {clash}'
    ]
    assert said('services: [{id: a.b, hostname: c.d, backend: "x:1"}, {hostname: a.b, backend: "x:1"}]') == [
        f'services[1].hostname: the id "a.b" {clash}'
    ]
    assert said('services: [{hostname: a.b, backend: "x:1"}, {hostname: a.b, backend: "x:1"}]') == [
        f'services[1].hostname: the host name "a.b" {clash}'
    ]


def test_what_has_the_wrong_shape_is_left_to_the_models() -> None:
    assert said('services: [5, {hostname: [a], hosts: "x", upstreams: 1}, {hosts: ["a b", 7], backend: "x:1"}]') == []


def test_a_service_lacks_what_it_needs() -> None:
    assert len(said("services: [{}]")) == 2
    assert said("services: []") == ["services: no services: this agent publishes nothing"]
