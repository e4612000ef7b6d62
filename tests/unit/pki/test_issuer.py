"""Tests of zerotrust.pki.issuer."""

import datetime
import ipaddress
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.authorities import ForeignCertificate
from tests.unit.pki.strong_keys import GENERATORS
from zerotrust.errors import CsrRefused, PkiError
from zerotrust.pki import ca, csr, keys
from zerotrust.pki.identity import agent_id_of, serial_of
from zerotrust.pki.issuer import Issued, Issuer, ServerNames

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
WEEK = datetime.timedelta(days=7)


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    made = ca.create_issuer(ca.create_root("Test CA", now=NOW), now=NOW)
    return Issuer(certificate=made.certificate, key=made.key)


def certificate_of(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.chain_pem)


def test_an_agent_certificate_names_the_agent_and_is_for_clients_only(issuer: Issuer) -> None:
    asked = csr.create()
    issued = issuer.issue_agent("pi-hole.1", asked.pem, WEEK, NOW)
    certificate, above = x509.load_pem_x509_certificates(issued.chain_pem)
    assert above == issuer.certificate
    certificate.verify_directly_issued_by(issuer.certificate)
    assert certificate.public_key() == asked.key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=pi-hole.1"
    assert agent_id_of(certificate) == "pi-hole.1"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("urn:0trust:agent:pi-hole.1")]
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_before_utc == NOW - datetime.timedelta(minutes=5)
    assert certificate.not_valid_after_utc == issued.not_after == NOW + WEEK
    assert issued.serial == serial_of(certificate)


def test_a_server_certificate_carries_each_address_once(issuer: Issuer) -> None:
    names = ServerNames(
        dns=["Tunnel.example.com", "tunnel.example.com.", "*.example.com"],
        ip=["::1", "127.0.0.1", "0:0::1"],
    )
    certificate = certificate_of(issuer.issue_server(csr.create().pem, names, WEEK, NOW))
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(found) == [
        x509.DNSName("tunnel.example.com"),
        x509.DNSName("*.example.com"),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_server_with_a_long_name_and_one_without(issuer: Issuer) -> None:
    host = ".".join(["x" * 40] * 5)
    certificate = certificate_of(
        issuer.issue_server(csr.create().pem, ServerNames(dns=[host]), WEEK, NOW)
    )
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(found) == [x509.DNSName(host)]
    with pytest.raises(PkiError, match="needs a DNS name or an IP address"):
        issuer.issue_server(csr.create().pem, ServerNames(), WEEK, NOW)


def test_of_a_request_only_the_key_counts(issuer: Issuer) -> None:
    key = keys.generate()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin")]))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("tunnel.example.com")]), critical=True
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = greedy.public_bytes(serialization.Encoding.PEM)
    modest = csr.create()
    one, other = (
        certificate_of(issuer.issue_agent("home", asked, WEEK, NOW)) for asked in (pem, modest.pem)
    )
    assert [e.oid for e in one.extensions] == [e.oid for e in other.extensions]
    assert (one.subject, agent_id_of(one)) == (other.subject, "home")
    own = (x509.SubjectKeyIdentifier,)
    assert [e.value for e in one.extensions if not isinstance(e.value, own)] == [
        e.value for e in other.extensions if not isinstance(e.value, own)
    ]


def test_bad_requests_ids_and_lives(issuer: Issuer) -> None:
    asked = csr.create().pem
    with pytest.raises(CsrRefused):
        issuer.issue_agent("home", b"nonsense", WEEK, NOW)
    for agent_id in ("", "../x", "a b", "home\n", "x" * 65, "ü"):
        with pytest.raises(PkiError, match="cannot be used as a name"):
            issuer.issue_agent(agent_id, asked, WEEK, NOW)
    with pytest.raises(PkiError, match="invalid validity"):
        issuer.issue_agent("home", asked, datetime.timedelta(0), NOW)
    with pytest.raises(PkiError, match="0trust ca rotate"):
        issuer.issue_agent("home", asked, WEEK, issuer.not_after)
    late = issuer.not_after - datetime.timedelta(days=1)
    assert issuer.issue_agent("home", asked, WEEK, late).not_after == issuer.not_after


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_an_authority_of_others_issues_with_its_own_kind_of_key(
    make: Callable[[], keys.Key],
) -> None:
    key = make()
    root = ForeignCertificate.root(key=key)
    issuer = Issuer(certificate=root.certificate, key=root.key)
    issued = issuer.issue_agent("home", csr.create().pem, WEEK, datetime.datetime.now(datetime.UTC))
    (certificate,) = x509.load_pem_x509_certificates(issued.chain_pem)
    certificate.verify_directly_issued_by(root.certificate)


def test_those_between_the_issuer_and_the_root_are_sent_too() -> None:
    root = ForeignCertificate.root(path_length=None)
    middle = root.issue("Middle", ca=True)
    lower = middle.issue("Lower", ca=True)
    issuer = Issuer(certificate=lower.certificate, key=lower.key, above=(middle.certificate,))
    issued = issuer.issue_agent("home", csr.create().pem, WEEK, datetime.datetime.now(datetime.UTC))
    assert x509.load_pem_x509_certificates(issued.chain_pem)[1:] == [
        lower.certificate,
        middle.certificate,
    ]


def test_an_authority_without_key_identifier_is_refused() -> None:
    key = keys.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bare")])
    bare = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + WEEK)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(PkiError, match="no subject key identifier"):
        Issuer(certificate=bare, key=key).issue_agent("a", csr.create().pem, WEEK, NOW)


def test_the_key_is_not_shown(issuer: Issuer) -> None:
    assert "key=" not in repr(issuer)
