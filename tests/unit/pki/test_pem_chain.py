"""Tests of zerotrust.pki.pem_chain: PEM of anybody, and always certificates or a PkiError."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.support.authorities import ForeignCertificate
from zerotrust.errors import PkiError
from zerotrust.pki.pem_chain import parse

ROOT = ForeignCertificate.root()


def pem(der: bytes) -> bytes:
    return (
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    )


def test_all_certificates_in_their_order() -> None:
    leaf = ROOT.issue("leaf")
    assert parse(b"text\n" + leaf.pem + ROOT.pem) == [leaf.certificate, ROOT.certificate]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a003020102", "a003020107"),  # the version
        ("2a8648ce3d0201", "2a8648ce3d027f"),  # the kind of key
        ("2a8648ce3d030107", "2a8648ce3d03017f"),  # the curve
    ],
)
def test_a_certificate_of_an_unknown_kind_is_not_taken(before: str, after: str) -> None:
    odd = pem(ROOT.der.replace(bytes.fromhex(before), bytes.fromhex(after), 1))
    assert odd != pem(ROOT.der)
    for text in (odd, ROOT.pem + odd):
        with pytest.raises(PkiError, match="not a certificate"):
            parse(text)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate(data: bytes) -> None:
    for text in (data, pem(data)):
        with pytest.raises(PkiError):
            parse(text)


@given(st.integers(0, len(ROOT.der) - 1), st.integers(0, 255))
def test_one_byte_that_differs(place: int, value: int) -> None:
    changed = bytearray(ROOT.der)
    changed[place] = value
    try:
        (certificate,) = parse(pem(bytes(changed)))
    except PkiError:
        return
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
