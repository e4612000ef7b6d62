"""Tests of the agent directory: decisions are stored and take effect at once.

The database is real; the sessions are stand-ins.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.support.authorities import Foreign
from tests.support.identities import HOME, Office, new_csr, office
from tests.support.waiting import eventually
from zerotrust.db import audit
from zerotrust.db.database import Database
from zerotrust.enrollment.join import MOST_ISSUED
from zerotrust.enrollment.overlaps import MAX_WARNINGS
from zerotrust.enrollment.rate_limits import RECORDS_AT_ONCE, Attempts
from zerotrust.errors import (
    AgentRevoked,
    CertificateRefused,
    EnrollmentError,
    NotFound,
    StateError,
    TokenUnknown,
    TokenUsed,
    TooManyAttempts,
)
from zerotrust.pki import csr, keys
from zerotrust.pki.identity import identity
from zerotrust.pki.proof_of_possession import prove
from zerotrust.server.identity import agent_directory as module
from zerotrust.server.identity.agent_directory import DATABASE, FILE, AgentDirectory

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as made:
        yield made


async def joined(place: Office, agent: str = "home", hosts: list[str] | None = None) -> str:
    """The serial of an agent that has joined."""
    token = await place.agent_directory.create_token(
        agent, hosts or [], lifetime=HOUR, actor="uid 0"
    )
    await place.agent_directory.join(token.secret, new_csr(), "203.0.113.7")
    return (await place.agent_directory.agent(agent)).certificates[0].serial


def actions(place: Office) -> list[str]:
    with place.database.transaction() as session:
        return [record.action for record in audit.records(session)]


async def test_who_joins_has_its_grants_at_once_and_after_a_restart(place: Office) -> None:
    token = await place.agent_directory.create_token(
        "home", ["a.example", "*.lab.example"], lifetime=HOUR, actor="uid 0"
    )
    assert not place.authorization.grants.may_serve("home", "a.example")
    told = await place.agent_directory.join(token.secret, new_csr(), "203.0.113.7")
    assert (told.agent_id, told.patterns) == ("home", ["*.lab.example", "a.example"])
    assert b"BEGIN CERTIFICATE" in told.chain_pem
    assert place.live.judged == 1
    again = place.again()
    assert not again.authorization.grants.may_serve("home", "a.example")
    await again.agent_directory.load()
    for authorization in (place.authorization, again.authorization):
        assert authorization.grants.may_serve("home", "a.example")
        assert authorization.grants.may_serve("home", "x.lab.example")
    assert actions(place) == ["token.created", "agent.joined"]


async def test_of_two_that_join_with_one_token_one_does(place: Office) -> None:
    token = await place.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0")
    attempts = [
        place.agent_directory.join(token.secret, new_csr(), f"203.0.113.{n}") for n in range(5)
    ]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, TokenUsed) for result in results) == 4
    assert len((await place.agent_directory.agent("home")).certificates) == 1


async def test_strangers_are_slowed_down_and_fill_no_audit(place: Office) -> None:
    refused = []
    for _ in range(30):
        try:
            await place.agent_directory.join("guessed", new_csr(), "203.0.113.7")
        except (TokenUnknown, TooManyAttempts) as error:
            refused.append(type(error))
    assert TokenUnknown in refused
    assert refused[-1] is TooManyAttempts
    assert actions(place).count("join.refused") == refused.count(TokenUnknown)
    with pytest.raises(TokenUnknown):
        await place.agent_directory.join("guessed", new_csr(), "198.51.100.1")


async def test_a_renewal_is_for_who_is_not_revoked(place: Office) -> None:
    serial = await joined(place)
    renewed = await place.agent_directory.renew("home", serial, new_csr())
    assert renewed.serial != serial
    assert identity(der(renewed.chain_pem)).agent_id == "home"
    await place.agent_directory.revoke("home", serial, reason="", actor="uid 0")
    with pytest.raises(AgentRevoked):
        await place.agent_directory.renew("home", serial, new_csr())
    await place.agent_directory.renew("home", renewed.serial, new_csr())


async def test_an_agent_cannot_fill_the_database_with_certificates(place: Office) -> None:
    serial = await joined(place)
    for _ in range(MOST_ISSUED - 1):
        serial = (await place.agent_directory.renew("home", serial, new_csr())).serial
    for _ in range(MOST_ISSUED):
        with pytest.raises(TooManyAttempts, match="has to wait"):
            await place.agent_directory.renew("home", serial, new_csr())
    assert len((await place.agent_directory.agent("home")).certificates) == MOST_ISSUED
    assert actions(place).count("certificate.renewed") == MOST_ISSUED - 1
    place.clock.forward(days=1)
    await place.agent_directory.renew("home", serial, new_csr())


async def test_nor_by_coming_back_again_and_again(place: Office) -> None:
    made = csr.create()
    token = await place.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0")
    chain, key = (
        (await place.agent_directory.join(token.secret, made.pem, "203.0.113.7")).chain_pem,
        made.key,
    )
    for number in range(MOST_ISSUED):
        made = csr.create()
        coming = place.agent_directory.renew_expired(
            chain, made.pem, prove(key, made.pem), f"203.0.113.{number}"
        )
        if number == MOST_ISSUED - 1:
            with pytest.raises(TooManyAttempts):
                await coming
        else:
            chain, key = (await coming).chain_pem, made.key


async def test_a_revoked_agent_that_comes_back_from_everywhere_fills_no_audit(
    place: Office,
) -> None:
    asked = new_csr()
    chain, proof = await shown(place, asked)
    await place.agent_directory.revoke("home", None, reason="", actor="uid 0")
    place.agent_directory.attempts = cast(
        "Attempts", SimpleNamespace(admit=lambda *_: None, renewal=lambda *_: None)
    )
    for _ in range(RECORDS_AT_ONCE + 5):
        with pytest.raises(AgentRevoked):
            await place.agent_directory.renew_expired(chain, asked, proof, "203.0.113.7")
    assert actions(place).count("renewal.refused") == RECORDS_AT_ONCE


def der(chain: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)


async def test_without_an_issuer_nobody_joins(place: Office) -> None:
    token = await place.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0")
    place.agent_directory.reconfigure(None)
    for attempt in (
        place.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0"),
        place.agent_directory.join(token.secret, new_csr(), "203.0.113.7"),
        place.agent_directory.renew("home", "1", new_csr()),
    ):
        with pytest.raises(EnrollmentError, match="ca init"):
            await attempt
    with pytest.raises(EnrollmentError):
        place.agent_directory.root_pem()


async def test_a_grant_holds_at_once_and_so_does_its_end(place: Office) -> None:
    granted = await place.agent_directory.add_grant("home", "A.Example.", actor="uid 0")
    assert (granted.pattern, granted.added) == ("a.example", True)
    assert place.authorization.grants.may_serve("home", "a.example")
    assert not (await place.agent_directory.add_grant("home", "a.example", actor="uid 0")).added
    assert not await place.agent_directory.remove_grant("home", "a.example", actor="uid 0")
    assert not place.authorization.grants.may_serve("home", "a.example")
    assert place.live.judged == 3
    with pytest.raises(NotFound):
        await place.agent_directory.remove_grant("home", "a.example", actor="uid 0")
    with pytest.raises(EnrollmentError):
        await place.agent_directory.remove_grant("home", "no host", actor="uid 0")
    assert actions(place) == ["grant.added", "grant.removed"]


async def test_what_the_file_grants_is_shown_and_not_taken_away(place: Office) -> None:
    place.authorization.grants.replace(FILE, [("home", "a.example"), ("work", "b.example")])
    with pytest.raises(EnrollmentError, match="server's file"):
        await place.agent_directory.remove_grant("home", "A.example", actor="uid 0")
    await place.agent_directory.add_grant("home", "a.example", actor="uid 0")
    await place.agent_directory.add_grant("home", "c.example", actor="uid 0")
    assert await place.agent_directory.remove_grant("home", "a.example", actor="uid 0")
    assert place.authorization.grants.may_serve("home", "a.example")
    kept, filed = await place.agent_directory.grants("home")
    assert ([grant.pattern for grant in kept], filed) == (["c.example"], [("home", "a.example")])
    assert len((await place.agent_directory.grants(None))[1]) == 2
    assert place.agent_directory.hosts_granted() == {"home": 2, "work": 1}


async def test_who_is_revoked_is_refused_and_cut_off_and_comes_back(place: Office) -> None:
    serial = await joined(place)
    place.live.sessions = [HOME]
    done = await place.agent_directory.revoke("home", None, reason="stolen", actor="uid 0")
    assert (done.sessions, done.streams, done.revocation.reason) == (1, 4, "stolen")
    assert place.authorization.refusal("home", serial) is not None
    again = place.again()
    await again.agent_directory.load()
    assert again.authorization.refusal("home", serial) is not None
    await place.agent_directory.restore("home", None, reissue=False, actor="uid 0")
    assert place.authorization.refusal("home", serial) is None
    await place.agent_directory.revoke("home", None, reason="", actor="uid 0")
    await place.agent_directory.restore("home", None, reissue=True, actor="uid 0")
    assert place.authorization.refusal("home", serial) is not None
    assert place.authorization.refusal("home", "1") is None
    with pytest.raises(NotFound):
        await place.agent_directory.restore("home", None, reissue=False, actor="uid 0")


async def test_one_certificate_is_revoked_however_its_serial_is_written(place: Office) -> None:
    place.live.sessions = [HOME]
    done = await place.agent_directory.revoke("home", "0A:BC", reason="", actor="uid 0")
    assert place.live.cuts == [("home", "abc")]
    assert done.sessions == 1
    assert place.authorization.refusal("home", "abc") is not None
    assert place.authorization.refusal("home", "def") is None


async def test_who_is_connected_with_a_certificate_made_by_hand_can_be_revoked(
    place: Office,
) -> None:
    with pytest.raises(NotFound):
        await place.agent_directory.revoke("home", None, reason="", actor="uid 0")
    assert place.live.cuts == []
    place.live.sessions = [HOME]
    assert (await place.agent_directory.revoke("home", None, reason="", actor="uid 0")).streams == 4


async def test_what_was_not_kept_changes_nothing(place: Office) -> None:
    serial = await joined(place, hosts=["a.example"])
    judged = place.live.judged
    with place.database.transaction() as session:
        session.connection().exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'x'); END"
        )
    for change in (
        place.agent_directory.revoke("home", None, reason="", actor="uid 0"),
        place.agent_directory.add_grant("home", "b.example", actor="uid 0"),
        place.agent_directory.remove_grant("home", "a.example", actor="uid 0"),
        place.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0"),
    ):
        with pytest.raises(StateError):
            await change
    assert place.authorization.refusal("home", serial) is None
    assert place.authorization.grants.may_serve("home", "a.example")
    assert not place.authorization.grants.may_serve("home", "b.example")
    assert (place.live.judged, place.live.cuts) == (judged, [])


async def test_decisions_hold_in_the_order_in_which_they_were_kept(place: Office) -> None:
    changes: list[Coroutine[Any, Any, object]] = []
    for n in range(40):
        changes.append(place.agent_directory.add_grant("home", f"h{n % 4}.example", actor="uid 0"))
        if n % 3 == 2:
            changes.append(
                place.agent_directory.remove_grant("home", f"h{n % 4}.example", actor="uid 0")
            )
    await asyncio.gather(*changes, return_exceptions=True)
    kept, _ = await place.agent_directory.grants("home")
    assert {("home", grant.pattern) for grant in kept} == place.authorization.grants.of(DATABASE)


async def test_tokens_are_listed_and_taken_back(place: Office) -> None:
    made = await place.agent_directory.create_token(
        "home", ["a.example"], lifetime=HOUR, actor="uid 7"
    )
    cancelled = await place.agent_directory.cancel_token(made.number, actor="uid 7")
    assert cancelled.cancelled_at == int(place.clock.now.timestamp())
    assert [token.number for token in await place.agent_directory.tokens()] == [made.number]
    with pytest.raises(NotFound):
        await place.agent_directory.cancel_token(made.number, actor="uid 7")
    with pytest.raises(TokenUnknown):
        await place.agent_directory.join(made.secret, new_csr(), "203.0.113.7")


async def test_it_says_where_it_keeps_things(place: Office, tmp_path: Path) -> None:
    assert place.agent_directory.database == str(tmp_path / "state.db")
    ours = AgentDirectory(
        place.database, authorization=place.authorization, sessions=place.live, authority=None
    )
    assert (await ours.add_grant("home", "a.example", actor="uid 0")).added
    assert [agent.id for agent in await ours.agents()] == ["home"]


async def shown(
    place: Office, csr_pem: bytes, *, signs: keys.Key | None = None
) -> tuple[bytes, bytes]:
    """The chain of an agent that has joined, and a proof for a request."""
    made = csr.create()
    token = await place.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0")
    joined_now = await place.agent_directory.join(token.secret, made.pem, "203.0.113.7")
    return joined_now.chain_pem, prove(signs or made.key, csr_pem)


async def test_an_ended_certificate_and_its_key_are_worth_a_new_one(place: Office) -> None:
    asked = new_csr()
    chain, proof = await shown(place, asked)
    place.clock.forward(days=20)
    back = await place.agent_directory.renew_expired(chain, asked, proof, "203.0.113.7")
    assert back.agent_id == "home"
    assert actions(place)[-1] == "certificate.renewed"


async def test_a_chain_without_its_key_is_worth_nothing(place: Office) -> None:
    asked = new_csr()
    chain, proof = await shown(place, asked, signs=keys.generate())
    with pytest.raises(CertificateRefused, match="did not sign this"):
        await place.agent_directory.renew_expired(chain, asked, proof, "203.0.113.7")
    chain, proof = await shown(place, asked)
    with pytest.raises(CertificateRefused, match="did not sign this"):
        await place.agent_directory.renew_expired(chain, new_csr(), proof, "203.0.113.7")
    foreign = Foreign.root().issue("home")
    with pytest.raises(CertificateRefused, match="not issued here"):
        await place.agent_directory.renew_expired(
            foreign.pem, asked, prove(foreign.key, asked), "203.0.113.7"
        )
    for nonsense in (b"", b"-----BEGIN CERTIFICATE-----", chain * 5):
        with pytest.raises(CertificateRefused):
            await place.agent_directory.renew_expired(nonsense, asked, proof, "203.0.113.8")


async def test_what_another_server_decides_holds_here_soon(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with office(tmp_path, url) as place, contextlib.closing(Database.open(url)) as database:
        await follows(place, place.again(database), monkeypatch)


async def follows(place: Office, other: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLLOW_EACH", 0.01)
    await place.agent_directory.load()
    before = place.live.judged
    following = asyncio.create_task(place.agent_directory.follow())
    try:
        await other.agent_directory.add_grant("home", "a.example", actor="uid 0")
        await eventually(
            lambda: place.authorization.grants.may_serve("home", "a.example"), "the grant is known"
        )
        assert place.live.judged == before + 1
        checked = place.live.checked
        await other.agent_directory.revoke("home", None, reason="", actor="uid 0")
        await eventually(
            lambda: place.authorization.refusal("home", "1") and place.live.checked > checked,
            "and who is out",
        )
        assert place.live.judged == before + 1, "for what is the same nobody is judged anew"
        await other.agent_directory.restore("home", None, reissue=False, actor="uid 0")
        await eventually(
            lambda: place.authorization.refusal("home", "1") is None, "and who is in again"
        )
    finally:
        following.cancel()


async def test_a_database_that_is_lost_is_told_of_once_and_changes_nothing(
    place: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLLOW_EACH", 0.01)
    await place.agent_directory.add_grant("home", "a.example", actor="uid 0")
    run, failed = place.database.run, 0

    async def fails(_work: object) -> None:
        nonlocal failed
        failed += 1
        raise StateError("the connection was lost")

    following = asyncio.create_task(place.agent_directory.follow())
    try:
        with capture_logs() as logs:
            monkeypatch.setattr(place.database, "run", fails)
            await eventually(lambda: failed > 3, "it is asked again and again")
        assert [one["reason"] for one in logs] == ["the connection was lost"]
        assert place.authorization.grants.may_serve("home", "a.example")
        monkeypatch.setattr(place.database, "run", run)
        await place.again().agent_directory.add_grant("home", "b.example", actor="uid 0")
        await eventually(
            lambda: place.authorization.grants.may_serve("home", "b.example"),
            "it is heard of again",
        )
    finally:
        following.cancel()


async def test_grants_that_overlap_are_logged_once(place: Office) -> None:
    """Whatever they come from, and again when they were gone in between."""

    def overlaps() -> list[tuple[object, ...]]:
        """Those that have been logged since the last look."""
        found: list[tuple[object, ...]] = [
            (line["wildcard_agent"], line["wildcard"], line["agent"], line["host_name"])
            for line in logs
            if line["event"].startswith("grants overlap")
        ]
        logs.clear()
        return found

    place.authorization.grants.replace(FILE, [("home", "*.lab.example")])
    with capture_logs() as logs:
        await place.agent_directory.add_grant("nas", "a.lab.example", actor="uid 0")
        assert overlaps() == [("home", "*.lab.example", "nas", "a.lab.example")]
        await place.agent_directory.add_grant("nas", "b.example", actor="uid 0")
        assert overlaps() == []
        await joined(place, "work", ["b.lab.example"])
        assert overlaps() == [("home", "*.lab.example", "work", "b.lab.example")]
        await place.agent_directory.remove_grant("nas", "a.lab.example", actor="uid 0")
        await place.agent_directory.add_grant("nas", "a.lab.example", actor="uid 0")
        assert overlaps() == [("home", "*.lab.example", "nas", "a.lab.example")]
        place.authorization.grants.replace(
            FILE, [("home", f"x{number}.lab.example") for number in range(30)]
        )
        place.agent_directory.log_overlaps()
        await place.agent_directory.add_grant("nas", "*.lab.example", actor="uid 0")
        assert (
            len([line for line in logs if line["event"].startswith("grants overlap")])
            == MAX_WARNINGS
        )
        assert logs[-1]["event"] == "more grants overlap"
