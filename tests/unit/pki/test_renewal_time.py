"""Tests of renewal times."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.authorities import ForeignCertificate
from zerotrust.pki.profile import BACKDATE
from zerotrust.pki.renewal_time import EARLIEST, LATEST, renew_at, share

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def test_each_takes_another_moment_about_two_thirds_in() -> None:
    parts = [share() for _ in range(100)]
    assert all(EARLIEST <= part <= LATEST for part in parts)
    assert max(parts) - min(parts) > 0.05
    assert share(random.Random(1)) == share(random.Random(1))


@pytest.mark.parametrize(("life", "after"), [(60, 40), (900, 600), (604_800, 403_200)])
def test_life_begins_when_it_was_issued(life: int, after: int) -> None:
    made = ForeignCertificate.root().issue(
        "a", start=NOW - BACKDATE, end=NOW + timedelta(seconds=life)
    )
    assert renew_at(made.certificate, 2 / 3) == pytest.approx(NOW.timestamp() + after, abs=1)


def test_a_certificate_that_ends_before_it_begins_is_renewed_at_once() -> None:
    made = ForeignCertificate.root().issue("a", start=NOW, end=NOW + timedelta(seconds=60))
    assert renew_at(made.certificate, 0.6) == (NOW + BACKDATE).timestamp()
