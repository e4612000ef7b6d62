"""Tests of zerotrust.config.access_checks, beside tests/config/invalid/server-access-names.yaml."""

from pathlib import Path

import pytest

from zerotrust.config.access_checks import rule_hosts
from zerotrust.config.load import check

ACCESS = """\
access:
  auth_host: auth.example.com
"""
ALONE = """\
access:
  auth_host: auth
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    return [str(problem).removeprefix(f"{file}:") for problem in check(file)]


@pytest.mark.parametrize(
    "more",
    [
        "  passkey_domain: example.com\n",
        "  passkey_domain: auth.example.com\n",
        "  rules: [{hosts: [a.example.com], allow: [{group: other}, {user: somebody}]}]\n",
        "  rules: [{hosts: ['*.example.com'], allow: signed_in}]\n",
        "  rules: [{hosts: [a.example.com], allow: [{app: x, group: y}, {country: DE}]}]\n"
        "  geo: {database: countries.mmdb}\n",
        "  rules: [{hosts: [sso.example.com], allow: anyone}]\n"
        "  identity_providers: {a: {issuer: 'https://sso.example.com', client_id: x}}\n",
        "  rules: [{hosts: [a.example.com], allow: [{group: a/b}, {provider: a}]}]\n"
        "  identity_providers: {a: {issuer: 'https://sso.org', client_id: x, groups_claim: g}}\n",
        "grants: {home: [a.example.com, '*']}\n",
    ],
)
def test_what_is_right_is_not_reported(tmp_path: Path, more: str) -> None:
    assert problems(tmp_path, ACCESS + more) == []


def test_a_host_with_two_rules_names_the_line_of_the_first(tmp_path: Path) -> None:
    text = ACCESS + (
        "  rules:\n"
        "    - {hosts: photos.example.com, allow: nobody}\n"
        "    - {hosts: [x.example.com, photos.example.com], allow: nobody}\n"
    )
    assert problems(tmp_path, text) == [
        "5:31: access.rules[1].hosts[1]: photos.example.com has a rule already (line 4): remove one"
    ]


def test_a_passkey_domain_of_a_host_name_without_dots(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, ALONE + "  passkey_domain: example.com\n")
    assert problem.endswith("so browsers refuse passkeys: write auth")


def test_a_service_with_access_listens_on_https(tmp_path: Path) -> None:
    text = (
        "agent_id: a\n"
        "server: {address: 'server.example.com:8443'}\n"
        "services:\n"
        "  - {hostname: a.example.com, backend: 'b:1', listen_on: http, access: {origins: []}}\n"
        "  - {hostname: b.example.com, backend: 'b:1', listen_on: both, access: {origins: []}}\n"
        "  - {hostname: c.example.com, backend: 'b:1', listen_on: http}\n"
    )
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("4:64: services[0].access: needs https")


def test_hosts_of_rules_with_their_places() -> None:
    rules = [{"hosts": "A.example.com"}, {"hosts": ["*.co.uk", 5]}, 7, {"hosts": None}]
    assert list(rule_hosts({"access": {"rules": rules}})) == [
        (("access", "rules", 0, "hosts", 0), "a.example.com"),
        (("access", "rules", 1, "hosts", 0), "*.co.uk"),
    ]
    assert list(rule_hosts({})) == []
