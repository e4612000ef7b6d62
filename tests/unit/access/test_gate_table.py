import pytest

from tests.unit.access.credentials import HOST, kind, pass_of, table, user
from zerotrust.access.gate import VerdictKind
from zerotrust.access.gate_table import GateTable
from zerotrust.errors import ClientAddressUnreadable
from zerotrust.model.access import Access

FAMILY = [{"group": "family"}]
ADMIN = "admin.example.com"


def test_the_exact_name_comes_before_the_wildcard_and_both_before_the_default() -> None:
    gates = table(
        {"hosts": ["*.example.com"], "allow": "nobody"}, {"hosts": [HOST], "allow": "anyone"}
    )
    found = {
        name: gate.host_pattern
        for name in (HOST, "other.example.com", "example.com", "a.b.example.com", "example.org")
        if (gate := gates.find(name)) is not None
    }
    assert found == {
        HOST: HOST,
        "other.example.com": "*.example.com",
        "example.com": "*",
        "a.b.example.com": "*",
        "example.org": "*",
    }
    assert gates.find(HOST) is gates.find(HOST)
    assert gates.find("other.example.com") is gates.find("other.example.com")


@pytest.mark.parametrize(
    ("default", "stranger", "known"),
    [
        ("nobody", VerdictKind.DENY, VerdictKind.DENY),
        ("signed_in", VerdictKind.SIGN_IN, VerdictKind.ALLOW),
    ],
)
def test_default(default: str, stranger: VerdictKind, known: VerdictKind) -> None:
    gate = table(default=default).find(HOST)
    assert gate is not None
    assert kind(gate, None) is stranger
    assert kind(gate, pass_of(user())) is known


def test_default_public_has_no_gate() -> None:
    gates = table({"hosts": ["*.lab.example.com"], "allow": FAMILY}, default="public")
    assert gates.find(HOST) is None
    assert gates.find(HOST) is None
    assert gates.find("x.lab.example.com") is not None


def test_gates_of_other_hosts_are_bounded() -> None:
    gates = table(default="signed_in")
    first = gates.find("h0.example.com")
    for number in range(5000):
        assert gates.find(f"h{number}.example.com") is not None
    assert gates.find("h0.example.com") is not first


def test_own_hosts_are_reserved_and_closed() -> None:
    gates = table(
        {"hosts": ["*.example.com"], "allow": "anyone"},
        admin_host=ADMIN,
        admins=[{"group": "admins"}],
        viewers=[{"group": "family"}],
    )
    assert gates.is_reserved("auth.example.com")
    assert gates.is_reserved(ADMIN)
    assert not gates.is_reserved(HOST)
    auth, admin = gates.find("auth.example.com"), gates.find(ADMIN)
    assert auth is not None and admin is not None
    assert kind(auth, pass_of(user(), host="auth.example.com")) is VerdictKind.DENY
    anna = pass_of(user("anna", groups=frozenset({"admins"})), host=ADMIN)
    ben = pass_of(user("ben"), host=ADMIN)
    eve = pass_of(user("eve", groups=frozenset()), host=ADMIN)
    assert kind(admin, anna) is kind(admin, ben) is VerdictKind.ALLOW
    assert kind(admin, eve) is VerdictKind.DENY
    assert kind(admin, None) is VerdictKind.SIGN_IN


def test_without_admin_host_there_is_no_administrator() -> None:
    gates = table(admins=[{"group": "family"}])
    assert not gates.is_reserved(ADMIN)
    empty = table(admin_host=ADMIN).find(ADMIN)
    assert empty is not None
    assert kind(empty, pass_of(user(), host=ADMIN)) is VerdictKind.DENY


def test_a_new_table_judges_anew() -> None:
    anna = pass_of(user())
    before, after = (
        table({"hosts": [HOST], "allow": allow}).find(HOST) for allow in (FAMILY, "nobody")
    )
    assert before is not None and after is not None
    assert kind(before, anna) is VerdictKind.ALLOW
    assert kind(after, anna) is VerdictKind.DENY
    assert kind(before, anna) is VerdictKind.ALLOW


def test_countries_are_looked_up() -> None:
    access = Access.model_validate(
        {
            "auth_host": "auth.example.com",
            "geo": {"database": "x.mmdb"},
            "rules": [{"hosts": [HOST], "allow": "anyone", "require": [{"country": "DE"}]}],
        }
    )
    gate = GateTable(access, country_of={"192.0.2.7": "DE"}.get).find(HOST)
    assert gate is not None
    assert kind(gate, None) is VerdictKind.ALLOW
    assert kind(gate, None, client="192.0.2.8") is VerdictKind.DENY
    assert ClientAddressUnreadable.status == 400
