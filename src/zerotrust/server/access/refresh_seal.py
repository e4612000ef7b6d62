"""Encryption of refresh tokens under a key that is not in the database."""

from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from zerotrust.errors import PkiError, StateError
from zerotrust.pki import keys

FILE: Final = "refresh-tokens.key"


class RefreshSeal:
    """Encrypts refresh tokens (Fernet: AES-128-CBC and HMAC-SHA256)."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    @classmethod
    def load(cls, folder: Path) -> "RefreshSeal":
        """Return the seal with the key in a folder; create the key if there is none.

        Raises:
            StateError: the file can't be read or written, or is damaged.
        """
        path = folder / FILE
        try:
            if not path.exists():
                keys.write(path, Fernet.generate_key(), mode=keys.PRIVATE, replace=False)
            return cls(path.read_bytes().strip())
        except PkiError as error:
            raise StateError(str(error)) from error
        except OSError as error:
            raise StateError(f"{path}: {error.strerror or error}") from error
        except ValueError as error:
            raise StateError(
                f"{path}: damaged; remove it, and users of providers with recheck sign in again"
            ) from error

    def seal(self, token: str) -> bytes:
        """Return the encrypted token."""
        return self._fernet.encrypt(token.encode())

    def open(self, sealed: bytes) -> str | None:
        """Return the token; None if it was encrypted with another key."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            return None
