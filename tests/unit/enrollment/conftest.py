"""Fixtures for enrollment tests: an issuer, and both databases."""

from collections.abc import Iterator

import pytest

from tests.unit.enrollment.transactions import NOW
from zerotrust.db.database import Database
from zerotrust.pki import ca
from zerotrust.pki.issuer import Issuer


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    made = ca.create_issuer(ca.create_root("Test CA", now=NOW), now=NOW)
    return Issuer(certificate=made.certificate, key=made.key)
