"""Tests of zerotrust.pki.ca."""

import datetime

import pytest
from cryptography import x509

from tests.support.authorities import ForeignCertificate
from zerotrust.errors import PkiError
from zerotrust.pki import ca, profile

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def constraints_of(certificate: x509.Certificate) -> tuple[bool, int | None, bool]:
    found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    return found.value.ca, found.value.path_length, found.critical


def test_the_root_signs_and_no_more() -> None:
    certificate = ca.create_root("Test CA", now=NOW).certificate
    assert constraints_of(certificate) == (True, 1, True)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign and usage.crl_sign and not usage.digital_signature
    assert certificate.subject == certificate.issuer
    assert certificate.not_valid_before_utc == NOW - datetime.timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + datetime.timedelta(days=7300)


def test_an_issuer_has_nothing_but_ends_below_it() -> None:
    root = ca.create_root("Test CA", now=NOW)
    certificate = ca.create_issuer(root, now=NOW).certificate
    assert constraints_of(certificate) == (True, 0, True)
    certificate.verify_directly_issued_by(root.certificate)
    assert certificate.subject.rfc4514_string() == "CN=Test CA issuing 2030-01-01 000000"
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.NameConstraints)


def test_a_long_name_leaves_room_for_the_issuers() -> None:
    root = ca.create_root("x" * 34 + "ü" * 15, now=NOW)
    assert ca.create_issuer(root, now=NOW).certificate.issuer == root.certificate.subject


@pytest.mark.parametrize("path_length", [None, 1])
def test_a_root_of_others_may_have_our_issuer_below_it(path_length: int | None) -> None:
    foreign = ForeignCertificate.root(path_length=path_length)
    made = ca.create_issuer(ca.CertifiedKey(certificate=foreign.certificate, key=foreign.key))
    made.certificate.verify_directly_issued_by(foreign.certificate)


def test_an_authority_of_the_old_kind_has_no_issuer() -> None:
    foreign = ForeignCertificate.root(path_length=0)
    with pytest.raises(
        PkiError, match="it keeps working, but cannot rotate; create a new one in another folder"
    ):
        ca.create_issuer(ca.CertifiedKey(certificate=foreign.certificate, key=foreign.key))


def test_an_issuer_ends_with_its_root() -> None:
    root = ca.create_root("Test CA", days=10, now=NOW)
    assert ca.create_issuer(
        root, now=NOW
    ).certificate.not_valid_after_utc == NOW + datetime.timedelta(days=10)
    with pytest.raises(PkiError, match="expired on 2030-01-11"):
        ca.create_issuer(root, now=NOW + datetime.timedelta(days=10))


@pytest.mark.parametrize("days", [0, -1, 36501, 10**9])
def test_lives_without_sense_are_refused(days: int) -> None:
    with pytest.raises(PkiError, match="invalid validity"):
        ca.create_root("Test CA", days=days)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_names_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(PkiError, match="1 to 64 characters"):
        ca.create_root(name)


def test_constraints_are_taken_over_as_they_are() -> None:
    root = ca.create_root("Test CA")
    asked = profile.alternative_names(dns=["tunnel.example.com"], ip=["192.0.2.7", "2001:db8::7"])
    first = ca.create_issuer(root, permitted=asked).certificate
    second = ca.create_issuer(root, permitted=profile.permitted_names(first)).certificate
    for certificate in (first, second):
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints)
        assert found.critical
        assert [str(tree.value) for tree in found.value.permitted_subtrees or []] == [
            "tunnel.example.com",
            "192.0.2.7/32",
            "2001:db8::7/128",
        ]
        assert not found.value.excluded_subtrees
    assert profile.permitted_names(root.certificate) == []
