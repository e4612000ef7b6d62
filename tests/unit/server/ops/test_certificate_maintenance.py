"""Tests of certificate maintenance: expired sessions, renewal, warnings."""

import datetime
from datetime import UTC, timedelta
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from zerotrust.errors import PkiError
from zerotrust.model.server import ServerConfig
from zerotrust.pki import ca_directory
from zerotrust.pki.issuer import ServerNames
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.authority import load_authority
from zerotrust.server.ops.certificate_maintenance import CertificateMaintenance


class Noted:
    """Sessions that record when they were asked to expire."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def expire(self, now: float) -> None:
        self.at.append(now)


class Kept:
    def __init__(self, folder: Path) -> None:
        ca_directory.create_authority(folder)
        ca_directory.issue_server(folder, "localhost", ServerNames(dns=["localhost"]), days=30)
        self.config = ServerConfig.model_validate(
            {
                "server": {
                    "cert_file": str(folder / "localhost.crt"),
                    "key_file": str(folder / "localhost.key"),
                    "ca_file": str(folder / "ca.crt"),
                },
                "authority": {
                    "cert_file": str(folder / "issuer.crt"),
                    "key_file": str(folder / "issuer.key"),
                },
            }
        )
        self.authority = load_authority(self.config)
        self.sessions = Noted()
        self.renewed = 0
        self.maintenance = CertificateMaintenance(
            cast("SessionControl", self.sessions), renewed=self.count
        )
        self.certificate = folder / "localhost.crt"

        self.fault: PkiError | None = None

    def count(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.renewed += 1

    def tick(self, at: datetime.datetime) -> None:
        self.maintenance.tick(at, self.config, self.authority)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def now() -> datetime.datetime:
    return datetime.datetime.now(UTC)


def test_sessions_are_looked_at_each_time_our_certificate_each_minute(kept: Kept) -> None:
    begin = now()
    before = kept.certificate.read_bytes()
    kept.tick(begin)
    assert kept.renewed == 0
    # Read anew each time, so that one which its owner has replaced is left as it is.
    late = begin + timedelta(days=25)
    kept.tick(late)
    assert kept.renewed == 1
    assert kept.certificate.read_bytes() != before
    kept.tick(late + timedelta(seconds=1))
    kept.tick(late + timedelta(minutes=2))
    assert kept.renewed == 1
    assert len(kept.sessions.at) == 4


def test_without_an_authority_only_sessions_are_looked_at(kept: Kept) -> None:
    kept.authority = None
    kept.tick(now() + timedelta(days=365))
    assert kept.renewed == 0
    assert len(kept.sessions.at) == 1


def test_a_clock_that_was_wrong_is_no_reason_to_wait_for_it(kept: Kept) -> None:
    kept.certificate.write_text("nothing")
    with capture_logs() as logs:
        kept.tick(now() + timedelta(days=365))
        kept.tick(now())
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "server certificate not renewed"
    ] * 2


def test_what_cannot_be_renewed_is_said_and_tried_again(kept: Kept) -> None:
    kept.certificate.write_text("nothing")
    with capture_logs() as logs:
        kept.tick(now())
        kept.tick(now() + timedelta(minutes=2))
    assert [line["log_level"] for line in logs] == ["error", "error"]
    assert "not a certificate" in logs[0]["reason"]


def test_a_certificate_that_is_renewed_and_not_in_use_yet_is_tried_again(kept: Kept) -> None:
    kept.fault = PkiError("no")
    late = now() + timedelta(days=25)
    kept.tick(late)
    kept.tick(late + timedelta(minutes=2))
    kept.fault = None
    kept.tick(late + timedelta(minutes=4))
    kept.tick(late + timedelta(minutes=6))
    assert kept.renewed == 1


def test_an_issuing_certificate_that_ends_soon_is_warned_about_once_a_day(kept: Kept) -> None:
    assert kept.authority is not None
    end = kept.authority.issuer.not_after
    with capture_logs() as logs:
        kept.tick(end - timedelta(days=31))
        assert not [line for line in logs if line["log_level"] == "warning"]
        for minutes in (0, 2, 4, 24 * 60):
            kept.tick(end - timedelta(days=10) + timedelta(minutes=minutes))
    said = [line for line in logs if line["log_level"] == "warning"]
    assert [line["days"] for line in said] == [10, 9]
    assert "0trust ca rotate" in said[0]["event"]


def test_another_process_may_renew_it(kept: Kept) -> None:
    kept.maintenance = CertificateMaintenance(
        cast("SessionControl", kept.sessions), renewed=kept.count, renews=False
    )
    at = now() + timedelta(days=29)
    before = kept.certificate.read_bytes()
    kept.tick(at)
    assert (kept.certificate.read_bytes(), kept.renewed) == (before, 0)
    kept.certificate.write_bytes(before + b"\n")
    kept.tick(at + timedelta(minutes=2))
    kept.tick(at + timedelta(minutes=4))
    assert kept.renewed == 1
    kept.certificate.unlink()
    kept.tick(at + timedelta(minutes=6))
    assert kept.renewed == 1
