"""Tests of zerotrust.pki.key_derivation."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from zerotrust.errors import PkiError
from zerotrust.pki.key_derivation import SECRET_BYTES, derive
from zerotrust.pki.keys import generate, to_pem


def test_a_secret_depends_on_key_and_purpose_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "one.key", tmp_path / "other.key"
    one.write_bytes(to_pem(generate()))
    other.write_bytes(to_pem(generate()))
    secret = derive(one, "cookies")
    assert secret == derive(one, "cookies")
    assert len({secret, derive(one, "else"), derive(other, "cookies")}) == 3
    assert len(secret) == SECRET_BYTES


@pytest.mark.parametrize(
    "make",
    [ed25519.Ed25519PrivateKey.generate, partial(rsa.generate_private_key, 65537, 2048)],
    ids=["Ed25519", "RSA"],
)
def test_keys_of_other_kinds(
    make: Callable[[], ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey], tmp_path: Path
) -> None:
    """The original made RSA keys."""
    key = make()
    path = tmp_path / "key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        if isinstance(key, rsa.RSAPrivateKey)
        else key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    assert len(derive(path, "x")) == SECRET_BYTES


def test_what_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(PkiError, match="key"):
        derive(path, "x")
    for text in (b"", b"text", to_pem(generate())[:-40]):
        path.write_bytes(text)
        with pytest.raises(PkiError, match="not a private key"):
            derive(path, "x")
