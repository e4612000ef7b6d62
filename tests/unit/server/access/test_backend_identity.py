"""Tests of the header edits that tell a backend who makes a request."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from joserfc import jws
from structlog.testing import capture_logs

from tests.support.databases import migrated_sqlite
from zerotrust.access.identity_headers import ASSERTION, IdentityHeaders
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind
from zerotrust.db.database import Database
from zerotrust.errors import StateError
from zerotrust.middleware.header_edits import Edit, edit_lines
from zerotrust.server.access import backend_identity as module
from zerotrust.server.access.backend_identity import REMEMBERED, BackendIdentity
from zerotrust.server.access.identity_keys import IdentityKeys

pytestmark = pytest.mark.anyio

ANNA = Subject(
    kind=SubjectKind.USER, id="u_1", name="anna", groups=frozenset(("family", "main/ops"))
)
HEADERS = IdentityHeaders(headers="remote_user")
PLAIN = IdentityHeaders()


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[IdentityKeys]:
    database = Database.open(migrated_sqlite(tmp_path / "state.db"))
    made = IdentityKeys(database, tmp_path)
    await made.load()
    yield made
    database.close()


@pytest.fixture
def identity(keys: IdentityKeys) -> BackendIdentity:
    return BackendIdentity(keys, "auth.example.com")


def anna(digest: bytes = b"d") -> Credential:
    return Credential(CredentialKind.PASS, "1", digest=digest, subject=ANNA, ends_at=2e10)


def edits(
    identity: BackendIdentity,
    credential: Credential | None,
    *,
    host: str = "a.example.com",
    groups: frozenset[str] = frozenset(("family",)),
    headers: IdentityHeaders = HEADERS,
) -> Sequence[Edit]:
    made = identity.edits(credential, host=host, named_groups=groups, headers=headers)
    assert made.lines == edit_lines(b"", made.edits)
    return made.edits


async def test_the_backend_is_told(identity: BackendIdentity) -> None:
    lines = edit_lines(b"A: b\r\nRemote-Email: evil\r\n", edits(identity, anna()))
    fields = dict(line.split(": ", 1) for line in lines.decode().splitlines())
    assertion = fields.pop(ASSERTION)
    claims = jws.extract_compact(assertion.encode()).payload
    assert b'"aud":"https://a.example.com"' in claims.replace(b" ", b"")
    assert fields == {
        "A": "b",
        "Remote-User": "anna",
        "Remote-Name": "anna",
        "Remote-Groups": "family",
    }


async def test_without_a_credential_the_fields_are_removed(identity: BackendIdentity) -> None:
    headers = IdentityHeaders(headers={"X-Person": "sub"})
    lines = b"X.Person: evil\r\nx-person: evil\r\nA: b\r\n"
    assert edit_lines(lines, edits(identity, None, headers=headers)) == b"A: b\r\n"


async def test_the_same_bytes_for_four_minutes(
    identity: BackendIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    first = edits(identity, anna())
    now += REMEMBERED - 1
    assert edits(identity, anna()) is first
    now += 1
    assert edits(identity, anna()) is not first


async def test_each_pass_host_subject_rule_and_service_has_its_own(
    identity: BackendIdentity,
) -> None:
    first = edits(identity, anna())
    other = anna()
    other.subject = Subject(kind=SubjectKind.USER, id="u_1", name="anna")
    made = [
        edits(identity, anna(b"e")),
        edits(identity, anna(), host="b.example.com"),
        edits(identity, other),
        edits(identity, anna(), groups=frozenset()),
        edits(identity, anna(), headers=PLAIN),
    ]
    assert all(each is not first for each in made)
    before = edits(identity, anna())
    identity.reconfigure("login.example.com")
    assert edits(identity, anna()) is not before


async def test_without_a_key_the_backend_is_told_nothing(
    identity: BackendIdentity, keys: IdentityKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: object) -> bytes:
        raise StateError("no key")

    monkeypatch.setattr(keys, "sign_assertion", lost)
    with capture_logs() as logged:
        for _ in range(3):
            assert not any(edit.lines for edit in edits(identity, anna()))
    assert len(logged) == 1


async def test_claims_of_the_provider_that_the_rule_names(identity: BackendIdentity) -> None:
    headers = IdentityHeaders(jwt=False, headers={"X-Team": "team", "X-Sub": "sub"})
    subject = Subject(kind=SubjectKind.USER, id="u_1", claims={"team": "ops", "sub": "evil"})
    one = Credential(CredentialKind.PASS, "1", digest=b"d", subject=subject, ends_at=2e10)
    named = frozenset(("team", "sub", "other"))
    for claims, line in ((named, b"X-Team: ops\r\n"), (frozenset(), b"")):
        made = identity.edits(
            one, host="a", named_groups=frozenset(), headers=headers, named_claims=claims
        )
        assert edit_lines(b"", made.edits) == made.lines == line + b"X-Sub: u_1\r\n"
