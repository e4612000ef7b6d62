"""The server's own certificate: renewed in time where it is ours, left alone where it is not."""

import datetime
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from tests.support.authorities import ForeignCertificate
from zerotrust.errors import PkiError
from zerotrust.model.server import AgentListenerConfig
from zerotrust.pki import ca_directory, keys
from zerotrust.pki.issuer import ServerNames
from zerotrust.pki.renewal_time import EARLIEST, LATEST
from zerotrust.server.identity.server_certificate import (
    ServerCertificate,
    log_foreign_member_addr,
    websocket_hosts,
)

LENGTH = timedelta(days=30)


def now() -> datetime.datetime:
    return datetime.datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    ca_directory.create_authority(tmp_path)
    names = ServerNames(dns=["tunnel.example.com", "localhost"], ip=["127.0.0.1", "::1"])
    ca_directory.issue_server(tmp_path, "tunnel.example.com", names, days=30)
    return tmp_path


def renew(
    folder: Path, at: datetime.datetime, *, own: ServerCertificate | None = None
) -> str | None:
    own = own or ServerCertificate(
        folder / "tunnel.example.com.crt", folder / "tunnel.example.com.key"
    )
    return own.renew(
        ca_directory.load_authority(folder),
        ca_directory.load_certificate(folder / "ca.crt"),
        LENGTH,
        at,
    )


def names_of(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(str(name.value) for name in found)


def test_it_is_renewed_for_the_same_names_with_a_new_key(authority: Path) -> None:
    path = authority / "tunnel.example.com.crt"
    before, key = (
        ca_directory.load_certificate(path),
        (authority / "tunnel.example.com.key").read_bytes(),
    )
    assert renew(authority, now() + LENGTH * EARLIEST - timedelta(hours=1)) is None
    assert renew(authority, at := now() + LENGTH * LATEST + timedelta(hours=1)) is not None
    after = ca_directory.load_certificate(path)
    assert (
        names_of(after)
        == names_of(before)
        == ["127.0.0.1", "::1", "localhost", "tunnel.example.com"]
    )
    assert after.not_valid_after_utc - at <= LENGTH
    assert (authority / "tunnel.example.com.key").read_bytes() != key
    assert after.public_key() == keys.read_key(authority / "tunnel.example.com.key").public_key()
    assert renew(authority, at) is None


def test_an_issuer_after_the_one_that_made_it_renews_it_too(authority: Path) -> None:
    ca_directory.rotate_issuer(authority)
    assert renew(authority, now() + LENGTH) is not None


def test_the_certificate_of_somebody_else_is_left_alone(authority: Path, tmp_path: Path) -> None:
    other = ForeignCertificate.root("0Trust CA").issue(
        "tunnel.example.com", dns=("tunnel.example.com",)
    )
    path = tmp_path / "other.crt"
    path.write_bytes(other.certificate.public_bytes(Encoding.PEM))
    own = ServerCertificate(path, tmp_path / "other.key")
    assert renew(authority, now() + timedelta(days=3000), own=own) is None


def test_what_cannot_be_read_is_said(authority: Path) -> None:
    (authority / "tunnel.example.com.crt").write_text("nothing")
    with pytest.raises(PkiError, match="not a certificate"):
        renew(authority, now() + LENGTH)


def test_the_names_for_websockets(authority: Path) -> None:
    certificate = str(authority / "tunnel.example.com.crt")
    config = AgentListenerConfig(cert_file=certificate, public_addr="Public.example.com:8443")
    assert websocket_hosts(config) == {"tunnel.example.com", "localhost", "public.example.com"}
    for address in ("192.0.2.1:8443", "[2001:db8::1]:8443"):
        config = AgentListenerConfig(cert_file=certificate, public_addr=address)
        assert websocket_hosts(config) == {"tunnel.example.com", "localhost"}
    named = AgentListenerConfig(cert_file="missing", websocket_hosts=["A.example.com"])
    assert websocket_hosts(named) == {"a.example.com"}
    with pytest.raises(PkiError):
        websocket_hosts(AgentListenerConfig(cert_file="missing"))


@pytest.mark.parametrize(
    ("address", "warned"),
    [(None, False), ("localhost:1", False), ("127.0.0.1:1", False), ("other.example.com:1", True)],
)
def test_a_member_address_that_the_certificate_does_not_name(
    tmp_path: Path, address: str | None, warned: bool
) -> None:
    ca_directory.create_authority(tmp_path)
    ca_directory.issue_server(tmp_path, "server", ServerNames(dns=["localhost"], ip=["127.0.0.1"]))
    config = AgentListenerConfig(cert_file=str(tmp_path / "server.crt"), member_addr=address)
    with capture_logs() as logs:
        log_foreign_member_addr(config)
    assert [log["host"] for log in logs] == (["other.example.com"] if warned else [])
