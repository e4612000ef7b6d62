"""A certificate and its key, replaced together, although a file system renames one file at a time.

The new key is written beside the old one first, then the certificate takes its place, then the key. Whoever is killed
between the two renames finds a certificate that fits the key that waits, and `complete` does the second rename.
"""

import contextlib
import os
from pathlib import Path

from cryptography import x509

from zerotrust.errors import PkiError
from zerotrust.pki import keys
from zerotrust.pki.ca_directory import load_certificate


def prepare(certificate: Path, key: Path, key_pem: bytes) -> None:
    """Let a new key wait for its certificate, before anybody is asked to issue that.

    Raises:
        PkiError: it can't be written, or the certificate couldn't be.
    """
    keys.write(_waiting(key), key_pem, mode=keys.PRIVATE, replace=True)
    if not os.access(certificate.parent, os.W_OK):
        raise PkiError(f"{certificate}: cannot be replaced; let the program write to its folder")


def replace(certificate: Path, key: Path, *, chain: bytes, key_pem: bytes) -> None:
    """Put a new certificate, with its chain, and its key in the place of the old ones.

    Raises:
        PkiError: one can't be written; both are as before, or `complete` makes them both new.
    """
    waiting = _waiting(key)
    keys.write(waiting, key_pem, mode=keys.PRIVATE, replace=True)
    keys.write(certificate, chain, mode=keys.PUBLIC, replace=True)
    _give_place(waiting, key)


def complete(certificate: Path, key: Path) -> None:
    """Finish a replacement that was broken off; without one nothing happens.

    Raises:
        PkiError: what waits can't be read or moved.
    """
    waiting = _waiting(key)
    if not waiting.exists():
        return
    if _fit(load_certificate(certificate), waiting):
        _give_place(waiting, key)
    else:
        with contextlib.suppress(OSError):  # of no use, and no harm where nothing can be written
            waiting.unlink(missing_ok=True)


def _waiting(key: Path) -> Path:
    return key.with_name(f"{key.name}.next")


def _fit(certificate: x509.Certificate, waiting: Path) -> bool:
    try:
        return certificate.public_key() == keys.read_key(waiting).public_key()
    except PkiError:
        return False


def _give_place(waiting: Path, key: Path) -> None:
    try:
        waiting.replace(key)
    except OSError as error:
        raise PkiError(f"{key}: cannot be replaced: {error.strerror}; let the program write there") from error
