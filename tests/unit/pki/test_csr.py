"""Tests of zerotrust.pki.csr."""

import base64
from collections.abc import Callable
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from zerotrust.errors import CsrRefused
from zerotrust.pki import csr, keys

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


def signed(key: object, algorithm: hashes.HashAlgorithm | None) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm)  # type: ignore[arg-type]


def as_pem(der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"


def test_what_is_made_is_accepted_and_says_nothing_but_the_key() -> None:
    made = csr.create()
    assert csr.public_key(made.pem) == made.key.public_key()
    parsed = x509.load_pem_x509_csr(made.pem)
    assert not list(parsed.subject) and not list(parsed.extensions)
    assert csr.create().pem != made.pem


@pytest.mark.parametrize(
    ("generate", "algorithm"),
    [
        (partial(ec.generate_private_key, ec.SECP384R1()), hashes.SHA384()),
        (ed25519.Ed25519PrivateKey.generate, None),
        (partial(rsa.generate_private_key, 65537, 2048), hashes.SHA512()),
    ],
    ids=["P-384", "Ed25519", "RSA 2048"],
)
def test_strong_keys_of_other_kinds(
    generate: Callable[[], keys.Key], algorithm: hashes.HashAlgorithm | None
) -> None:
    key = generate()
    assert csr.public_key(signed(key, algorithm).public_bytes(PEM)) == key.public_key()


@pytest.mark.parametrize(
    "generate",
    [
        partial(rsa.generate_private_key, 65537, 1024),
        partial(rsa.generate_private_key, 3, 2048),
        partial(ec.generate_private_key, ec.SECP521R1()),
        partial(ec.generate_private_key, ec.SECP256K1()),
        partial(dsa.generate_private_key, 1024),
    ],
    ids=["RSA 1024", "RSA e=3", "P-521", "secp256k1", "DSA"],
)
def test_weak_keys_and_rare_kinds(generate: Callable[[], object]) -> None:
    key = generate()
    with pytest.raises(CsrRefused, match="is not accepted; use P-256"):
        csr.public_key(signed(key, hashes.SHA256()).public_bytes(PEM))


def test_a_weak_hash() -> None:
    # cryptography refuses to sign with SHA-1; a request that says so is refused before its
    # signature is looked at.
    der = signed(rsa.generate_private_key(65537, 2048), hashes.SHA256()).public_bytes(DER)
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    assert der.count(sha256) == 1
    with pytest.raises(CsrRefused, match="weak hash"):
        csr.public_key(as_pem(der.replace(sha256, sha1)))


def test_possession_is_proven() -> None:
    one, other = csr.create(), csr.create()
    der = x509.load_pem_x509_csr(one.pem).public_bytes(DER)
    own, foreign = (
        made.key.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for made in (one, other)
    )
    with pytest.raises(CsrRefused, match="not signed by its own key"):
        csr.public_key(as_pem(der.replace(own, foreign)))


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"-----BEGIN CERTIFICATE REQUEST-----\n", as_pem(b""), b"\x00" * 99]
)
def test_what_is_no_request(data: bytes) -> None:
    with pytest.raises(CsrRefused, match="not a certificate signing request"):
        csr.public_key(data)


def test_the_size_is_bounded() -> None:
    with pytest.raises(CsrRefused, match="longer than 8192 bytes"):
        csr.public_key(csr.create().pem + b"\n" * 8192)
    largest = rsa.generate_private_key(65537, 4096)
    assert csr.public_key(signed(largest, hashes.SHA256()).public_bytes(PEM))


_DER = x509.load_pem_x509_csr(csr.create().pem).public_bytes(DER)


@given(st.integers(0, len(_DER) - 1), st.integers(1, 255))
@example(_DER.index(b"\x02\x01\x00") + 2, 1)
def test_no_changed_byte_passes(position: int, change: int) -> None:
    broken = bytearray(_DER)
    broken[position] ^= change
    with pytest.raises(CsrRefused):
        csr.public_key(as_pem(bytes(broken)))
