"""The audit, from the command line."""

import json

import pytest

from tests.support.identities import DirectoryServer
from tests.unit.cli.conftest import Ask
from zerotrust.cli import audit


@pytest.fixture
def full(ask: Ask) -> Ask:
    for number in range(5):
        ask("grants", "add", "home", f"h{number}.example")
    return ask


def test_the_last_records(full: Ask) -> None:
    code, out, _ = full("audit", "list", "--limit", 2)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["4", "5"]
    assert "grant.added" in out
    assert "host=h4.example" in out
    assert json.loads(full("audit", "list", "--after", 1, "--json")[1])["records"][0]["number"] == 2
    assert full("audit", "list", "--agent", "other")[1] == "no records\n"
    assert full("audit", "list", "--limit", 0)[0] == 2


def test_an_audit_that_is_whole(full: Ask) -> None:
    code, out, err = full("audit", "verify")
    head = json.loads(full("audit", "list", "--json")[1])["records"][-1]["hash"]
    assert (code, out) == (0, f"5 records, all unchanged; the hash of the last is {head}\n")
    assert err
    assert json.loads(full("audit", "verify", "--json")[1])["broken"] is None


def test_an_audit_that_is_not(full: Ask, server: DirectoryServer) -> None:
    with server.database.transaction() as session:
        connection = session.connection()
        for (name,) in connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type='trigger'"
        ).fetchall():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql("UPDATE audit SET actor = 'uid 1' WHERE number = 3")
    code, out, _ = full("audit", "verify")
    assert code == 3
    assert out.startswith("record 3 is broken: ")
    assert "2 records before it unchanged" in out
    code, out, _ = full("audit", "verify", "--json")
    assert (code, json.loads(out)["broken"]) == (3, 3)


def test_all_of_it_in_lines(full: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    code, out, _ = full("audit", "export")
    assert code == 0
    assert [json.loads(line)["number"] for line in out.splitlines()] == [1, 2, 3, 4, 5, 6], (
        "who reads it all is in it"
    )


def test_an_empty_audit(ask: Ask) -> None:
    assert ask("audit", "list")[1] == "no records\n"
    code, out, _ = ask("audit", "export")
    assert (code, json.loads(out)["action"]) == (0, "audit.exported")
