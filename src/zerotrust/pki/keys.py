"""Private keys: made, written so that only their owner can read them, and read back.

ECDSA P-256: every TLS stack has it, a signature takes tens of microseconds, and a key is 121 bytes.

A file is written under a temporary name in the same folder, flushed to the disk and then given its name, so that a
crash or a full disk leaves either the old file or the new one and never half of one.
"""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from zerotrust.errors import PkiError

Key = ec.EllipticCurvePrivateKey

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


def generate() -> Key:
    """A new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def to_pem(key: Key) -> bytes:
    """PKCS #8 without a password: the file's mode protects it, a service has nobody to ask."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(path: Path) -> Key:
    """The private key in a PEM file.

    Raises:
        PkiError: missing, unreadable, or not an ECDSA key without a password.
    """
    data = read(path, what="private key")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise PkiError(f"{path}: the key has a password; store it without: openssl pkey -in {path}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{path}: not a private key in PEM form; restore it or issue it again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path}: not an ECDSA key; issue it again with 0trust ca")
    return key


def read(path: Path, *, what: str) -> bytes:
    """The bytes of a file.

    Raises:
        PkiError: it cannot be read; the message names the file and `what` it is.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PkiError(f"{path}: no such {what}; create it with 0trust ca, or correct the path") from error
    except (OSError, ValueError) as error:
        raise PkiError(f"{path}: cannot read the {what}: {_reason(error)}; correct path or permissions") from error


def write(path: Path, data: bytes, *, mode: int, replace: bool) -> None:
    """Create `path` whole with `mode`.

    Raises:
        PkiError: it exists and `replace` is false, or it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        _write_new(temporary, data, mode)
        try:
            if replace:
                temporary.replace(path)
            else:
                _give_name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)
    except FileExistsError as error:
        raise PkiError(f"{path}: exists already and is not overwritten; move it away first, or use --force") from error
    except (OSError, ValueError) as error:
        raise PkiError(f"{path}: cannot write: {_reason(error)}; choose a folder you may write to") from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    # 0600 from the first moment: a reader who opens the file before a later chmod keeps it open.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _give_name(temporary: Path, path: Path) -> None:
    """Rename, but fail where `path` exists: a link does both in one step where the file system has links."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)


def _flush_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; some file systems refuse, and then there is nothing to do."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
