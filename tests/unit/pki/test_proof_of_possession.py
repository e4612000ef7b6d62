"""A proof is good for one key, one request and one purpose."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.pki import keys
from zerotrust.pki.proof_of_possession import prove, proves

KEYS: list[keys.Key] = [
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    ed25519.Ed25519PrivateKey.generate(),
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
]
CSR = b"-----BEGIN CERTIFICATE REQUEST-----"


@pytest.mark.parametrize("key", KEYS, ids=["P-256", "P-384", "Ed25519", "RSA"])
def test_who_has_the_key_can_prove_it(key: keys.Key) -> None:
    proof = prove(key, CSR)
    assert proves(key.public_key(), CSR, proof)
    assert not proves(key.public_key(), CSR + b" ", proof)
    assert not proves(key.public_key(), CSR, proof[:-1])
    for other in KEYS:
        if other is not key:
            assert not proves(other.public_key(), CSR, proof)


def test_a_signature_for_something_else_is_no_proof() -> None:
    key = KEYS[0]
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert not proves(key.public_key(), CSR, key.sign(CSR, ec.ECDSA(hashes.SHA256())))


@given(st.binary(max_size=200))
def test_takes_any_bytes_for_a_proof(proof: bytes) -> None:
    assert not any(proves(key.public_key(), CSR, proof) for key in KEYS)


def test_keys_that_are_too_weak_prove_nothing() -> None:
    assert not proves(dsa.generate_private_key(1024).public_key(), CSR, b"")
