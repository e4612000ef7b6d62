"""Credentials and requests for tests of the rules."""

from typing import Any

from zerotrust.access.gate import Gate, VerdictKind
from zerotrust.access.gate_request import GateRequest
from zerotrust.access.gate_table import GateTable
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind
from zerotrust.model.access import Access

HOST = "app.example.com"
NOW = 1_800_000_000.0


def user(name: str = "anna", **about: Any) -> Subject:
    about.setdefault("groups", frozenset({"family"}))
    return Subject(kind=SubjectKind.USER, id=f"u_{name}", name=name, **about)


def machine(name: str) -> Subject:
    return Subject(kind=SubjectKind.MACHINE, id=f"machine:{name}", name=name)


def app(name: str, owner: Subject | None) -> Subject:
    return Subject(kind=SubjectKind.APP, id=f"app:{name}", name=name, owner=owner)


def link(owner: Subject | None = None) -> Subject:
    return Subject(kind=SubjectKind.LINK, id="link:1", owner=owner)


PIN = Subject(kind=SubjectKind.PIN, id=f"pin:{HOST}")


def sign_in(subject: Subject, **about: Any) -> Credential:
    return _credential(CredentialKind.SIGN_IN, subject, **about)


def pass_of(subject: Subject, host: str = HOST, **about: Any) -> Credential:
    return _credential(CredentialKind.PASS, subject, host=host, **about)


def token_of(subject: Subject, *hosts: str, **about: Any) -> Credential:
    return _credential(CredentialKind.TOKEN, subject, hosts=hosts, **about)


def _credential(kind: CredentialKind, subject: Subject, **about: Any) -> Credential:
    about.setdefault("ends_at", NOW + 86400)
    return Credential(kind, "1", digest=bytes(32), subject=subject, **about)


def request(
    target: str = "/", *, method: str = "GET", client: str = "192.0.2.7", now: float = NOW
) -> GateRequest:
    return GateRequest(
        method.encode(), target.encode("latin-1"), client=client.encode(), unix_time=now
    )


def table(*rules: dict[str, Any], **access: Any) -> GateTable:
    country_of = access.pop("country_of", None)
    section = Access.model_validate(
        {"auth_host": "auth.example.com", "rules": list(rules), **access}
    )
    return GateTable(section) if country_of is None else GateTable(section, country_of=country_of)


def gate(allow: Any, *, host: str = HOST, **rule: Any) -> Gate:
    country_of = rule.pop("country_of", None)
    extra = {} if country_of is None else {"country_of": country_of, "geo": {"database": "x"}}
    found = table({"hosts": [host], "allow": allow, **rule}, **extra).find(host)
    assert found is not None
    return found


def kind(gate: Gate, credential: Credential | None, **about: Any) -> VerdictKind:
    return gate.judge(credential, request(**about)).kind
