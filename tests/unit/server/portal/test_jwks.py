"""Tests of the JWKS document over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.requests import Request

from tests.support.databases import migrated_sqlite
from zerotrust.db.database import Database
from zerotrust.server.access.identity_keys import IdentityKeys
from zerotrust.server.portal.jwks import PATH, jwks_endpoint

pytestmark = pytest.mark.anyio


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(migrated_sqlite(tmp_path / "state.db"))
    yield opened
    opened.close()


async def test_the_document(database: Database, tmp_path: Path) -> None:
    keys = IdentityKeys(database, tmp_path)
    await keys.load()
    request = Request({"type": "http", "method": "GET", "path": PATH, "headers": []})
    response = await jwks_endpoint(keys)(request)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=300"
    assert response.headers["content-type"] == "application/jwk-set+json"
    assert "set-cookie" not in response.headers
    document = KeySet.import_key_set(json.loads(bytes(response.body)))
    token = jwt.decode(keys.sign_assertion({"sub": "u_1"}), document, algorithms=["ES256"])
    assert token.claims["sub"] == "u_1"
