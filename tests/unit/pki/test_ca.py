"""Tests of zerotrust.pki.ca."""

import contextlib
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from zerotrust.errors import PkiError
from zerotrust.pki import ca, keys

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def test_the_authority_signs_and_no_more() -> None:
    authority = ca.create_authority("Test CA", now=NOW)
    certificate = authority.certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.value.path_length, constraints.critical) == (True, 0, True)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert not usage.digital_signature
    assert certificate.subject == certificate.issuer
    assert certificate.not_valid_before_utc == NOW - datetime.timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + datetime.timedelta(days=3650)


def test_an_agent_certificate_names_the_agent_and_is_for_clients_only() -> None:
    authority = ca.create_authority("Test CA", now=NOW)
    certificate = authority.issue_agent("pi-hole.1", now=NOW).certificate
    assert certificate.subject.rfc4514_string() == "CN=pi-hole.1"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("urn:0trust:agent:pi-hole.1")]
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_after_utc == NOW + datetime.timedelta(days=365)
    certificate.verify_directly_issued_by(authority.certificate)


def test_a_server_certificate_carries_each_address_once() -> None:
    authority = ca.create_authority("Test CA")
    credential = authority.issue_server(
        "tunnel", dns=["Tunnel.example.com", "tunnel.example.com.", "*.example.com"], ip=["::1", "127.0.0.1"]
    )
    names = credential.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [
        x509.DNSName("tunnel.example.com"),
        x509.DNSName("*.example.com"),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    uses = credential.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize("host", ["", "a b", "a:80", "[::1]", "http://a"])
def test_what_is_not_a_dns_name_is_refused(host: str) -> None:
    with pytest.raises(PkiError):
        ca.alternative_names(dns=[host], ip=[])


def test_what_is_not_an_address_is_refused() -> None:
    with pytest.raises(PkiError, match='"localhost" is not an IP address'):
        ca.alternative_names(dns=[], ip=["localhost"])


def test_no_certificate_outlives_its_authority() -> None:
    authority = ca.create_authority("Test CA", days=10, now=NOW)
    certificate = authority.issue_agent("a", days=365, now=NOW).certificate
    assert certificate.not_valid_after_utc == NOW + datetime.timedelta(days=10)
    with pytest.raises(PkiError, match="ended on 2030-01-11"):
        authority.issue_agent("a", now=NOW + datetime.timedelta(days=11))


@pytest.mark.parametrize("days", [0, -1, 10**9])
def test_lives_without_sense_are_refused(days: int) -> None:
    with pytest.raises(PkiError, match="not a life for a certificate"):
        ca.create_authority("Test CA", days=days)


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(PkiError, match="1 to 64 characters"):
        ca.create_authority("x" * 65)


def test_an_authority_without_key_identifier_is_refused() -> None:
    key = keys.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bare")])
    bare = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(PkiError, match="no subject key identifier"):
        ca.Authority(certificate=bare, key=key).issue_agent("a", now=NOW)


def _context(folder: Path, purpose: ssl.Purpose, authority: ca.Authority, own: ca.Credential) -> ssl.SSLContext:
    (folder / "own.crt").write_bytes(own.certificate_pem)
    (folder / "own.key").write_bytes(keys.to_pem(own.key))
    context = ssl.create_default_context(purpose, cadata=authority.certificate_pem.decode())
    context.load_cert_chain(folder / "own.crt", folder / "own.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    return context


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname="tunnel.example.com"),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(6):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()


def test_openssl_accepts_both_under_strict_rules_and_refuses_swapped_roles(tmp_path: Path) -> None:
    authority = ca.create_authority("Test CA")
    agent = authority.issue_agent("a")
    server = authority.issue_server("s", dns=["tunnel.example.com"], ip=[])
    server_side = _context(tmp_path, ssl.Purpose.CLIENT_AUTH, authority, server)
    _handshake(_context(tmp_path, ssl.Purpose.SERVER_AUTH, authority, agent), server_side)

    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        _handshake(_context(tmp_path, ssl.Purpose.SERVER_AUTH, authority, server), server_side)
    stranger = ca.create_authority("Test CA").issue_agent("a")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(_context(tmp_path, ssl.Purpose.SERVER_AUTH, authority, stranger), server_side)
