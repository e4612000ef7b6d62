"""Private keys: generation, and files that only their owner can read.

Our keys are ECDSA P-256: every TLS stack has it, a signature takes tens of microseconds, and a key
has 121 bytes. Keys made elsewhere may also be P-384, Ed25519, or RSA with at least 2048 bits.

A file is written under a temporary name in the same folder, flushed to the disk and then renamed:
a crash or a full disk leaves the old file or the new one, never half a file.
"""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from zerotrust.errors import PkiError

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
PASSPHRASE_BYTES: Final = 16
"""Minimum length. PKCS #8 spends only 2048 rounds of PBKDF2 on a guess: a word would be found."""
RSA_BITS: Final = range(2048, 8193)
RSA_EXPONENT: Final = 65537
STRONG: Final = "P-256, P-384, Ed25519, or RSA with 2048 bits"


def generate() -> ec.EllipticCurvePrivateKey:
    """Generate a private key."""
    return ec.generate_private_key(ec.SECP256R1())


def to_pem(key: Key, passphrase: bytes | None = None) -> bytes:
    """Return the key in PKCS #8; without a passphrase only the mode of its file protects it."""
    encryption: serialization.KeySerializationEncryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def signing_hash(key: Key) -> hashes.SHA256 | None:
    """Return the hash that `key` signs with; None for Ed25519, which has its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def strong(key: object) -> PublicKey | None:
    """`key`, where it is a public key that we put our name to; `STRONG` says which are."""
    match key:
        case ed25519.Ed25519PublicKey():
            return key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1)):
            return key
        case rsa.RSAPublicKey() if (
            key.key_size in RSA_BITS and key.public_numbers().e == RSA_EXPONENT
        ):
            return key
    return None


def read_key(path: Path, passphrase: bytes | None = None) -> Key:
    """The private key in a PEM file.

    Raises:
        PkiError: missing, unreadable, weak, encrypted with another passphrase, or not encrypted
            where one is given.
    """
    data = read(path, what="private key")
    try:
        key = serialization.load_pem_private_key(data, password=passphrase)
    except TypeError as error:
        raise PkiError(
            f"{path}: the key is encrypted; give the file with its passphrase"
            if passphrase is None
            else (
                f"{path}: a passphrase is given, but the key is not encrypted; encrypt it, or give"
                " no passphrase"
            )
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        otherwise = "" if passphrase is None else ", or encrypted with another passphrase"
        raise PkiError(
            f"{path}: not a private key in PEM form{otherwise}; restore it or issue it again"
        ) from error
    if not isinstance(key, Key) or strong(key.public_key()) is None:
        raise PkiError(
            f"{path}: the key is of a kind that is not used here or too weak; use {STRONG}"
        )
    return key


def read_passphrase(path: Path) -> bytes:
    """The passphrase in a file: its first line.

    Raises:
        PkiError: unreadable, or too short to protect anything.
    """
    try:
        passphrase = path.read_bytes().partition(b"\n")[0].removesuffix(b"\r")
    except (OSError, ValueError) as error:
        raise PkiError(
            f"{path}: cannot read the passphrase: {_reason(error)}; correct path or permissions"
        ) from error
    if len(passphrase) < PASSPHRASE_BYTES:
        raise PkiError(
            f"{path}: the passphrase has fewer than {PASSPHRASE_BYTES} characters; "
            f"make a good one: openssl rand -base64 32 > {path}"
        )
    return passphrase


def read(path: Path, *, what: str) -> bytes:
    """The bytes of a file.

    Raises:
        PkiError: it cannot be read; the message names the file and `what` it is.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PkiError(
            f"{path}: no such {what}; create it with 0trust ca, or correct the path"
        ) from error
    except (OSError, ValueError) as error:
        raise PkiError(
            f"{path}: cannot read the {what}: {_reason(error)}; correct path or permissions"
        ) from error


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
        raise PkiError(
            f"{path}: exists already and is not overwritten; move it away first, or use --force"
        ) from error
    except (OSError, ValueError) as error:
        raise PkiError(
            f"{path}: cannot write: {_reason(error)}; choose a folder you may write to"
        ) from error


def read_or_create(path: Path, make: Callable[[], str], *, what: str) -> str:
    """Return the text of a private file; create it with what `make` returns if there is none.

    Several processes may call this at once: all return the text of the one that was first.

    Raises:
        PkiError: it cannot be read or written; the message names the file and `what` it is.
    """
    if not path.exists():
        try:
            write(path, make().encode(), mode=PRIVATE, replace=False)
        except PkiError:
            if not path.exists():
                raise
    return read(path, what=what).strip().decode("latin-1")


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
    """Rename without overwriting; atomic if the file system has hard links."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)


def _flush_folder(folder: Path) -> None:
    """Flush the folder, so that the new name survives a power cut; some file systems cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
