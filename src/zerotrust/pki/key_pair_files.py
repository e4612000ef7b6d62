"""Replacement of a certificate and its key together, though a file system renames one at a time.

The new key is written beside the old one first; then the certificate is replaced, then the key. If
the process is killed between the two renames, the certificate fits the waiting key, and `complete`
does the second rename.
"""

import contextlib
import os
from pathlib import Path

from cryptography import x509

from zerotrust.errors import PkiError
from zerotrust.pki import keys
from zerotrust.pki.ca_directory import load_certificate


def prepare(certificate: Path, key: Path, key_pem: bytes) -> None:
    """Store a new key beside the old one, before its certificate is requested.

    Raises:
        PkiError: the key cannot be written, or the certificate could not be.
    """
    keys.write(_waiting(key), key_pem, mode=keys.PRIVATE, replace=True)
    if not os.access(certificate.parent, os.W_OK):
        raise PkiError(f"{certificate}: cannot be replaced; make its folder writable")


def replace(certificate: Path, key: Path, *, chain: bytes, key_pem: bytes) -> None:
    """Replace a certificate and its key.

    Args:
        chain: the new certificate with its chain, in PEM form.

    Raises:
        PkiError: a file cannot be written; both are unchanged, or `complete` makes both new.
    """
    waiting = _waiting(key)
    keys.write(waiting, key_pem, mode=keys.PRIVATE, replace=True)
    keys.write(certificate, chain, mode=keys.PUBLIC, replace=True)
    move_key(waiting, key)


def complete(certificate: Path, key: Path) -> None:
    """Finish an interrupted replacement, if there is one.

    Raises:
        PkiError: the waiting key cannot be read or moved.
    """
    waiting = _waiting(key)
    if not waiting.exists():
        return
    if _fit(load_certificate(certificate), waiting):
        move_key(waiting, key)
    else:
        with contextlib.suppress(
            OSError
        ):  # it is useless, and harmless in a folder that cannot be written
            waiting.unlink(missing_ok=True)


def _waiting(key: Path) -> Path:
    return key.with_name(f"{key.name}.next")


def _fit(certificate: x509.Certificate, waiting: Path) -> bool:
    try:
        return certificate.public_key() == keys.read_key(waiting).public_key()
    except PkiError:
        return False


def move_key(waiting: Path, key: Path) -> None:
    """Replace a private key by the one that waits beside it.

    Raises:
        PkiError: the folder cannot be written.
    """
    try:
        waiting.replace(key)
    except OSError as error:
        raise PkiError(
            f"{key}: cannot be replaced: {error.strerror}; make its folder writable"
        ) from error
