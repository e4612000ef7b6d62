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


WITH_SECRET = (
    ACCESS
    + """\
  identity_providers:
    main: {issuer: "https://sso.example.com", client_id: x, client_secret_file: main.secret}
"""
)


def test_a_dashboard_for_no_one_is_named(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, ACCESS + "  admin_host: admin.example.com\n")
    assert "access.admin_host: no one may open the dashboard: add admins" in problem


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
        f"  geo: {{database: '{__file__}'}}\n",
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


def test_a_provider_behind_a_rule_of_its_own(tmp_path: Path) -> None:
    """Nobody could reach it to sign in."""
    text = ACCESS + (
        "  rules: [{hosts: [sso.example.com], allow: signed_in}]\n"
        "  identity_providers: {a: {issuer: 'https://SSO.example.com:8443/x', client_id: x}}\n"
    )
    (problem,) = problems(tmp_path, text)
    assert problem.partition(": ")[2].lower() == (
        "access.identity_providers.a.issuer: sso.example.com has a rule that needs a sign-in, so it"
        " is not reachable for signing in: give it allow: anyone"
    )


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


def test_an_empty_section_is_an_error(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "caddy: {}\naccess:\n")
    assert problem == (
        "2:1: access: is empty, so everyone may enter everywhere: add auth_host and rules, or"
        " remove it"
    )


@pytest.mark.parametrize("kind", ["google", "entra", "keycloak"])
def test_a_provider_that_asks_for_a_secret(tmp_path: Path, kind: str) -> None:
    more = {
        "google": "sign_in: [{email_domain: example.com}]",
        "entra": "tenant: 8f2c0d5e-0000-4000-8000-000000000000",
        "keycloak": "issuer: 'https://sso.example.com'",
    }[kind]
    text = ACCESS + f"  identity_providers: {{a: {{kind: {kind}, client_id: x, {more}}}}}\n"
    (problem,) = problems(tmp_path, text)
    assert problem.endswith(f".a: {kind} asks for a secret: add client_secret_file")


def test_a_secret_that_cannot_be_read_or_that_all_can_read(tmp_path: Path) -> None:
    secret = tmp_path / "main.secret"
    where = "4:81: access.identity_providers.main.client_secret_file: "
    assert problems(tmp_path, WITH_SECRET) == [
        f"{where}{secret} cannot be read: No such file or directory; correct the path or the"
        " permissions"
    ]
    secret.touch(mode=0o600)
    assert problems(tmp_path, WITH_SECRET) == [f"{where}{secret} is empty"]
    secret.write_text("x")
    assert problems(tmp_path, WITH_SECRET) == []
    secret.chmod(0o644)
    assert problems(tmp_path, WITH_SECRET) == [
        f"{where}all users of this machine can read {secret}: run chmod o-rwx {secret}"
    ]


def test_a_database_of_countries_that_is_not_there(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, ACCESS + "  geo: {database: countries.mmdb}\n")
    assert problem.endswith(f"access.geo.database: there is no file {tmp_path}/countries.mmdb")


def test_a_condition_without_a_key(tmp_path: Path) -> None:
    text = ACCESS + "  rules: [{hosts: [a.example.com], allow: [family], deny: [kids]}]\n"
    allow, deny = problems(tmp_path, text)
    assert allow.endswith(
        '.allow[0]: "family" is no condition: say what it names, as in { group: NAME }'
    )
    assert '"kids" is no condition' in deny
