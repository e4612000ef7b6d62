"""Secrets derived from a private key (HKDF, RFC 5869): the same after a restart, and never
stored."""

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from zerotrust.errors import PkiError
from zerotrust.pki.keys import read

SECRET_BYTES: Final = 32


def derive(key: Path, purpose: str) -> bytes:
    """Return 32 secret bytes derived from the key, different ones for each purpose.

    Args:
        key: a private key of any kind, in PEM form and without a password.

    Raises:
        PkiError: the key cannot be read.
    """
    try:
        private = serialization.load_pem_private_key(read(key, what="private key"), password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{key}: not a private key in PEM form without a password") from error
    material = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=f"0trust {purpose}".encode()).derive(
        material
    )
