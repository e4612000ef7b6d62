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

from tests.support.authorities import ForeignCertificate
from tests.support.identities import HOME, DirectoryServer, directory_server, new_csr
from tests.support.waiting import eventually
from zerotrust.db import audit, change_watch
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
from zerotrust.server.identity.agent_directory import DATABASE, FILE, AgentDirectory

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DirectoryServer]:
    with directory_server(tmp_path) as made:
        yield made


async def joined(
    server: DirectoryServer, agent: str = "home", hosts: list[str] | None = None
) -> str:
    """The serial of an agent that has joined."""
    token = await server.agent_directory.create_token(
        agent, hosts or [], lifetime=HOUR, actor="uid 0"
    )
    await server.agent_directory.join(token.secret, new_csr(), "203.0.113.7")
    return (await server.agent_directory.agent(agent)).certificates[0].serial


def actions(server: DirectoryServer) -> list[str]:
    with server.database.transaction() as session:
        return [record.action for record in audit.records(session)]


async def test_who_joins_has_its_grants_at_once_and_after_a_restart(
    server: DirectoryServer,
) -> None:
    token = await server.agent_directory.create_token(
        "home", ["a.example", "*.lab.example"], lifetime=HOUR, actor="uid 0"
    )
    assert not server.authorization.grants.may_serve("home", "a.example")
    told = await server.agent_directory.join(token.secret, new_csr(), "203.0.113.7")
    assert (told.agent_id, told.patterns) == ("home", ["*.lab.example", "a.example"])
    assert b"BEGIN CERTIFICATE" in told.chain_pem
    assert server.live.judged == 1
    again = server.again()
    assert not again.authorization.grants.may_serve("home", "a.example")
    await again.agent_directory.load()
    for authorization in (server.authorization, again.authorization):
        assert authorization.grants.may_serve("home", "a.example")
        assert authorization.grants.may_serve("home", "x.lab.example")
    assert actions(server) == ["token.created", "agent.joined"]


async def test_of_two_that_join_with_one_token_one_does(server: DirectoryServer) -> None:
    token = await server.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0")
    attempts = [
        server.agent_directory.join(token.secret, new_csr(), f"203.0.113.{n}") for n in range(5)
    ]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, TokenUsed) for result in results) == 4
    assert len((await server.agent_directory.agent("home")).certificates) == 1


async def test_strangers_are_slowed_down_and_fill_no_audit(server: DirectoryServer) -> None:
    refused = []
    for _ in range(30):
        try:
            await server.agent_directory.join("guessed", new_csr(), "203.0.113.7")
        except (TokenUnknown, TooManyAttempts) as error:
            refused.append(type(error))
    assert TokenUnknown in refused
    assert refused[-1] is TooManyAttempts
    assert actions(server).count("join.refused") == refused.count(TokenUnknown)
    with pytest.raises(TokenUnknown):
        await server.agent_directory.join("guessed", new_csr(), "198.51.100.1")


async def test_a_renewal_is_for_who_is_not_revoked(server: DirectoryServer) -> None:
    serial = await joined(server)
    renewed = await server.agent_directory.renew("home", serial, new_csr())
    assert renewed.serial != serial
    assert identity(der(renewed.chain_pem)).agent_id == "home"
    await server.agent_directory.revoke("home", serial, reason="", actor="uid 0")
    with pytest.raises(AgentRevoked):
        await server.agent_directory.renew("home", serial, new_csr())
    await server.agent_directory.renew("home", renewed.serial, new_csr())


async def test_an_agent_cannot_fill_the_database_with_certificates(server: DirectoryServer) -> None:
    serial = await joined(server)
    for _ in range(MOST_ISSUED - 1):
        serial = (await server.agent_directory.renew("home", serial, new_csr())).serial
    for _ in range(MOST_ISSUED):
        with pytest.raises(TooManyAttempts, match="has to wait"):
            await server.agent_directory.renew("home", serial, new_csr())
    assert len((await server.agent_directory.agent("home")).certificates) == MOST_ISSUED
    assert actions(server).count("certificate.renewed") == MOST_ISSUED - 1
    server.clock.forward(days=1)
    await server.agent_directory.renew("home", serial, new_csr())


async def test_nor_by_coming_back_again_and_again(server: DirectoryServer) -> None:
    made = csr.create()
    token = await server.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0")
    chain, key = (
        (await server.agent_directory.join(token.secret, made.pem, "203.0.113.7")).chain_pem,
        made.key,
    )
    for number in range(MOST_ISSUED):
        made = csr.create()
        coming = server.agent_directory.renew_expired(
            chain, made.pem, prove(key, made.pem), f"203.0.113.{number}"
        )
        if number == MOST_ISSUED - 1:
            with pytest.raises(TooManyAttempts):
                await coming
        else:
            chain, key = (await coming).chain_pem, made.key


async def test_a_revoked_agent_that_comes_back_from_everywhere_fills_no_audit(
    server: DirectoryServer,
) -> None:
    asked = new_csr()
    chain, proof = await shown(server, asked)
    await server.agent_directory.revoke("home", None, reason="", actor="uid 0")
    server.agent_directory.attempts = cast(
        "Attempts", SimpleNamespace(admit=lambda *_: None, renewal=lambda *_: None)
    )
    for _ in range(RECORDS_AT_ONCE + 5):
        with pytest.raises(AgentRevoked):
            await server.agent_directory.renew_expired(chain, asked, proof, "203.0.113.7")
    assert actions(server).count("renewal.refused") == RECORDS_AT_ONCE


def der(chain: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)


async def test_without_an_issuer_nobody_joins(server: DirectoryServer) -> None:
    token = await server.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0")
    server.agent_directory.reconfigure(None)
    for attempt in (
        server.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0"),
        server.agent_directory.join(token.secret, new_csr(), "203.0.113.7"),
        server.agent_directory.renew("home", "1", new_csr()),
    ):
        with pytest.raises(EnrollmentError, match="ca init"):
            await attempt
    with pytest.raises(EnrollmentError):
        server.agent_directory.root_pem()


async def test_a_grant_holds_at_once_and_so_does_its_end(server: DirectoryServer) -> None:
    granted = await server.agent_directory.add_grant("home", "A.Example.", actor="uid 0")
    assert (granted.pattern, granted.added) == ("a.example", True)
    assert server.authorization.grants.may_serve("home", "a.example")
    assert not (await server.agent_directory.add_grant("home", "a.example", actor="uid 0")).added
    assert not await server.agent_directory.remove_grant("home", "a.example", actor="uid 0")
    assert not server.authorization.grants.may_serve("home", "a.example")
    assert server.live.judged == 3
    with pytest.raises(NotFound):
        await server.agent_directory.remove_grant("home", "a.example", actor="uid 0")
    with pytest.raises(EnrollmentError):
        await server.agent_directory.remove_grant("home", "no host", actor="uid 0")
    assert actions(server) == ["grant.added", "grant.removed"]


async def test_what_the_file_grants_is_shown_and_not_taken_away(server: DirectoryServer) -> None:
    server.authorization.grants.replace(FILE, [("home", "a.example"), ("work", "b.example")])
    with pytest.raises(EnrollmentError, match="server's file"):
        await server.agent_directory.remove_grant("home", "A.example", actor="uid 0")
    await server.agent_directory.add_grant("home", "a.example", actor="uid 0")
    await server.agent_directory.add_grant("home", "c.example", actor="uid 0")
    assert await server.agent_directory.remove_grant("home", "a.example", actor="uid 0")
    assert server.authorization.grants.may_serve("home", "a.example")
    kept, filed = await server.agent_directory.grants("home")
    assert ([grant.pattern for grant in kept], filed) == (["c.example"], [("home", "a.example")])
    assert len((await server.agent_directory.grants(None))[1]) == 2
    assert server.agent_directory.hosts_granted() == {"home": 2, "work": 1}


async def test_who_is_revoked_is_refused_and_cut_off_and_comes_back(
    server: DirectoryServer,
) -> None:
    serial = await joined(server)
    server.live.sessions = [HOME]
    done = await server.agent_directory.revoke("home", None, reason="stolen", actor="uid 0")
    assert (done.sessions, done.streams, done.revocation.reason) == (1, 4, "stolen")
    assert server.authorization.refusal("home", serial) is not None
    again = server.again()
    await again.agent_directory.load()
    assert again.authorization.refusal("home", serial) is not None
    await server.agent_directory.restore("home", None, reissue=False, actor="uid 0")
    assert server.authorization.refusal("home", serial) is None
    await server.agent_directory.revoke("home", None, reason="", actor="uid 0")
    await server.agent_directory.restore("home", None, reissue=True, actor="uid 0")
    assert server.authorization.refusal("home", serial) is not None
    assert server.authorization.refusal("home", "1") is None
    with pytest.raises(NotFound):
        await server.agent_directory.restore("home", None, reissue=False, actor="uid 0")


async def test_one_certificate_is_revoked_however_its_serial_is_written(
    server: DirectoryServer,
) -> None:
    server.live.sessions = [HOME]
    done = await server.agent_directory.revoke("home", "0A:BC", reason="", actor="uid 0")
    assert server.live.cuts == [("home", "abc")]
    assert done.sessions == 1
    assert server.authorization.refusal("home", "abc") is not None
    assert server.authorization.refusal("home", "def") is None


async def test_who_is_connected_with_a_certificate_made_by_hand_can_be_revoked(
    server: DirectoryServer,
) -> None:
    with pytest.raises(NotFound):
        await server.agent_directory.revoke("home", None, reason="", actor="uid 0")
    assert server.live.cuts == []
    server.live.sessions = [HOME]
    assert (
        await server.agent_directory.revoke("home", None, reason="", actor="uid 0")
    ).streams == 4


async def test_what_was_not_kept_changes_nothing(server: DirectoryServer) -> None:
    serial = await joined(server, hosts=["a.example"])
    judged = server.live.judged
    with server.database.transaction() as session:
        session.connection().exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'x'); END"
        )
    for change in (
        server.agent_directory.revoke("home", None, reason="", actor="uid 0"),
        server.agent_directory.add_grant("home", "b.example", actor="uid 0"),
        server.agent_directory.remove_grant("home", "a.example", actor="uid 0"),
        server.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0"),
    ):
        with pytest.raises(StateError):
            await change
    assert server.authorization.refusal("home", serial) is None
    assert server.authorization.grants.may_serve("home", "a.example")
    assert not server.authorization.grants.may_serve("home", "b.example")
    assert (server.live.judged, server.live.cuts) == (judged, [])


async def test_decisions_hold_in_the_order_in_which_they_were_kept(server: DirectoryServer) -> None:
    changes: list[Coroutine[Any, Any, object]] = []
    for n in range(40):
        changes.append(server.agent_directory.add_grant("home", f"h{n % 4}.example", actor="uid 0"))
        if n % 3 == 2:
            changes.append(
                server.agent_directory.remove_grant("home", f"h{n % 4}.example", actor="uid 0")
            )
    await asyncio.gather(*changes, return_exceptions=True)
    kept, _ = await server.agent_directory.grants("home")
    assert {("home", grant.pattern) for grant in kept} == server.authorization.grants.of(DATABASE)


async def test_tokens_are_listed_and_taken_back(server: DirectoryServer) -> None:
    made = await server.agent_directory.create_token(
        "home", ["a.example"], lifetime=HOUR, actor="uid 7"
    )
    cancelled = await server.agent_directory.cancel_token(made.number, actor="uid 7")
    assert cancelled.cancelled_at == int(server.clock.now.timestamp())
    assert [token.number for token in await server.agent_directory.tokens()] == [made.number]
    with pytest.raises(NotFound):
        await server.agent_directory.cancel_token(made.number, actor="uid 7")
    with pytest.raises(TokenUnknown):
        await server.agent_directory.join(made.secret, new_csr(), "203.0.113.7")


async def test_it_says_where_it_keeps_things(server: DirectoryServer, tmp_path: Path) -> None:
    assert server.agent_directory.database == str(tmp_path / "state.db")
    ours = AgentDirectory(
        server.database, authorization=server.authorization, sessions=server.live, authority=None
    )
    assert (await ours.add_grant("home", "a.example", actor="uid 0")).added
    assert [agent.id for agent in await ours.agents()] == ["home"]


async def shown(
    server: DirectoryServer, csr_pem: bytes, *, signs: keys.Key | None = None
) -> tuple[bytes, bytes]:
    """The chain of an agent that has joined, and a proof for a request."""
    made = csr.create()
    token = await server.agent_directory.create_token("home", [], lifetime=HOUR, actor="uid 0")
    joined_now = await server.agent_directory.join(token.secret, made.pem, "203.0.113.7")
    return joined_now.chain_pem, prove(signs or made.key, csr_pem)


async def test_an_ended_certificate_and_its_key_are_worth_a_new_one(
    server: DirectoryServer,
) -> None:
    asked = new_csr()
    chain, proof = await shown(server, asked)
    server.clock.forward(days=20)
    back = await server.agent_directory.renew_expired(chain, asked, proof, "203.0.113.7")
    assert back.agent_id == "home"
    assert actions(server)[-1] == "certificate.renewed"


async def test_a_chain_without_its_key_is_worth_nothing(server: DirectoryServer) -> None:
    asked = new_csr()
    chain, proof = await shown(server, asked, signs=keys.generate())
    with pytest.raises(CertificateRefused, match="did not sign this"):
        await server.agent_directory.renew_expired(chain, asked, proof, "203.0.113.7")
    chain, proof = await shown(server, asked)
    with pytest.raises(CertificateRefused, match="did not sign this"):
        await server.agent_directory.renew_expired(chain, new_csr(), proof, "203.0.113.7")
    foreign = ForeignCertificate.root().issue("home")
    with pytest.raises(CertificateRefused, match="not issued here"):
        await server.agent_directory.renew_expired(
            foreign.pem, asked, prove(foreign.key, asked), "203.0.113.7"
        )
    for nonsense in (b"", b"-----BEGIN CERTIFICATE-----", chain * 5):
        with pytest.raises(CertificateRefused):
            await server.agent_directory.renew_expired(nonsense, asked, proof, "203.0.113.8")


async def test_what_another_server_decides_holds_here_soon(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        directory_server(tmp_path, url) as server,
        contextlib.closing(Database.open(url)) as database,
    ):
        await follows(server, server.again(database), monkeypatch)


async def follows(
    server: DirectoryServer, other: DirectoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "POLL_EACH", 0.01)
    await server.agent_directory.load()
    before = server.live.judged
    following = asyncio.create_task(server.agent_directory.follow())
    try:
        await other.agent_directory.add_grant("home", "a.example", actor="uid 0")
        await eventually(
            lambda: server.authorization.grants.may_serve("home", "a.example"), "the grant is known"
        )
        assert server.live.judged == before + 1
        checked = server.live.checked
        await other.agent_directory.revoke("home", None, reason="", actor="uid 0")
        await eventually(
            lambda: server.authorization.refusal("home", "1") and server.live.checked > checked,
            "and who is out",
        )
        assert server.live.judged == before + 1, "for what is the same nobody is judged anew"
        await other.agent_directory.restore("home", None, reissue=False, actor="uid 0")
        await eventually(
            lambda: server.authorization.refusal("home", "1") is None, "and who is in again"
        )
    finally:
        following.cancel()


async def test_a_database_that_is_lost_is_told_of_once_and_changes_nothing(
    server: DirectoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "POLL_EACH", 0.01)
    await server.agent_directory.add_grant("home", "a.example", actor="uid 0")
    run, failed = server.database.run, 0

    async def fails(_work: object) -> None:
        nonlocal failed
        failed += 1
        raise StateError("the connection was lost")

    following = asyncio.create_task(server.agent_directory.follow())
    try:
        with capture_logs() as logs:
            monkeypatch.setattr(server.database, "run", fails)
            await eventually(lambda: failed > 3, "it is asked again and again")
        assert [one["reason"] for one in logs] == ["the connection was lost"]
        assert server.authorization.grants.may_serve("home", "a.example")
        monkeypatch.setattr(server.database, "run", run)
        await server.again().agent_directory.add_grant("home", "b.example", actor="uid 0")
        await eventually(
            lambda: server.authorization.grants.may_serve("home", "b.example"),
            "it is heard of again",
        )
    finally:
        following.cancel()


async def test_grants_that_overlap_are_logged_once(server: DirectoryServer) -> None:
    """Overlaps of grants from any source are logged once, and again after they were gone."""

    def overlaps() -> list[tuple[object, ...]]:
        """Return the overlaps logged since the last call."""
        found: list[tuple[object, ...]] = [
            (line["wildcard_agent"], line["wildcard"], line["agent"], line["host_name"])
            for line in logs
            if line["event"].startswith("grants overlap")
        ]
        logs.clear()
        return found

    server.authorization.grants.replace(FILE, [("home", "*.lab.example")])
    with capture_logs() as logs:
        await server.agent_directory.add_grant("nas", "a.lab.example", actor="uid 0")
        assert overlaps() == [("home", "*.lab.example", "nas", "a.lab.example")]
        await server.agent_directory.add_grant("nas", "b.example", actor="uid 0")
        assert overlaps() == []
        await joined(server, "work", ["b.lab.example"])
        assert overlaps() == [("home", "*.lab.example", "work", "b.lab.example")]
        await server.agent_directory.remove_grant("nas", "a.lab.example", actor="uid 0")
        await server.agent_directory.add_grant("nas", "a.lab.example", actor="uid 0")
        assert overlaps() == [("home", "*.lab.example", "nas", "a.lab.example")]
        server.authorization.grants.replace(
            FILE, [("home", f"x{number}.lab.example") for number in range(30)]
        )
        server.agent_directory.log_overlaps()
        await server.agent_directory.add_grant("nas", "*.lab.example", actor="uid 0")
        assert (
            len([line for line in logs if line["event"].startswith("grants overlap")])
            == MAX_WARNINGS
        )
        assert logs[-1]["event"] == "more grants overlap"
