"""Tests of zerotrust.server.ops.doctor_facts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.access_parts import StandingParts
from tests.support.identities import FakeSessionControl, directory_server, home
from zerotrust.db.access_tables import IdentityRow, PasskeyRow, UserRow
from zerotrust.model.access import Access
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.audit import Audit, OtherServers
from zerotrust.server.ops import doctor_facts
from zerotrust.server.ops.doctor_facts import doctor_facts as facts_of

pytestmark = pytest.mark.anyio

ACCESS = Access.model_validate(
    {
        "auth_host": "auth.example.com",
        "identity_providers": {
            "main": {"issuer": "https://a.example", "client_id": "c", "groups_claim": "groups"},
            "other": {"issuer": "https://b.example", "client_id": "c"},
        },
    }
)


class FakeAudit:
    """Stand-in for server.identity.audit.Audit."""

    def __init__(self, found: OtherServers | None) -> None:
        self.found = found

    async def other_servers(self) -> OtherServers | None:
        return self.found


def audit(found: OtherServers | None = None) -> Audit:
    return cast("Audit", FakeAudit(found))


ALONE = audit()


async def test_other_servers_of_the_database() -> None:
    found = await facts_of(control(), None, audit(OtherServers(["b :8443"], 1.23456)))
    assert (found.differing, found.database_ahead) == (["b :8443"], 1.235)
    alone = await facts_of(control(), None, ALONE)
    assert (alone.differing, alone.database_ahead) == ([], None)


def registration(*requested: str, hosts: tuple[str, ...] = (), https: bool = True) -> Any:
    return SimpleNamespace(requested=requested, hosts=hosts, schemes=SimpleNamespace(https=https))


def session(trip: float | None = None, rank: int = 0, **changes: Any) -> Any:
    link = SimpleNamespace(session=SimpleNamespace(keepalive=SimpleNamespace(round_trip=trip)))
    return home(**{"link": link, "rank": rank, "services": {}, "unenforced": {}, **changes})


def control(*sessions: Any) -> SessionControl:
    made = FakeSessionControl()
    made.sessions = list(sessions)
    return cast("SessionControl", made)


async def test_the_host_names_of_all_sessions() -> None:
    names = ("a.example.com", "refused.example.com")
    first = session(0.0213, services={"web": registration(*names)})
    again = session(rank=1, services={"web": registration(*names, https=False)})
    older = session(
        rank=2,
        services={"old": registration(hosts=("old.example.com",), https=False)},
        unenforced={"odd": SimpleNamespace(hosts=["odd.example.com"])},
        attached=False,
    )
    found = await facts_of(control(older, again, first), None, ALONE)
    assert [(one.host, one.service, one.refusal, one.secured) for one in found.hosts] == [
        ("a.example.com", "web", "", True),
        ("refused.example.com", "web", "not granted to home", True),
        ("old.example.com", "old", "", False),
        ("odd.example.com", "odd", "the server cannot enforce its policy; its log says why", True),
    ]
    assert [one.round_trip for one in found.hosts] == [21.3, 21.3, None, None]
    assert found.hosts[2].connected is False
    assert found.contested == ["home"]
    assert (found.other_passkeys, found.groupless) == (0, {})


async def test_the_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_facts, "MAX_HOSTS", 2)
    many = session(services={"web": registration(*(f"{n}.example.com" for n in range(9)))})
    assert len((await facts_of(control(many), None, ALONE)).hosts) == 2


async def test_passkeys_and_groups(tmp_path: Path) -> None:
    with directory_server(tmp_path) as server:
        with server.database.transaction() as database:
            user = UserRow(id="u1", name="anna", created_at=1)
            database.add(user)
            database.flush()
            for number, domain in enumerate(["auth.example.com", "old.example.com"]):
                database.add(
                    PasskeyRow(
                        credential_id=bytes([number]),
                        user_id="u1",
                        public_key=b"k",
                        rp_id=domain,
                        created_at=1,
                    )
                )
            for provider in ("main", "other"):
                database.add(IdentityRow(provider=provider, subject="1", user_id="u1", seen_at=1))
        parts = StandingParts(server.database, ACCESS)
        found = await facts_of(control(), parts, ALONE)
        assert (found.other_passkeys, found.groupless) == (1, {"main": 1})
        with server.database.transaction() as database:
            database.add(
                IdentityRow(
                    provider="main", subject="2", user_id="u1", seen_at=2, groups=["family"]
                )
            )
        assert (await facts_of(control(), parts, ALONE)).groupless == {}
