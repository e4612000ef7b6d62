"""Index of all live sign-ins, passes and tokens by the digest of their secret."""

from collections.abc import Iterator
from typing import Final

from zerotrust.access.subject import Credential

MAX_CREDENTIALS: Final = 100_000


class CredentialIndex:
    """All credentials in force. It belongs to the loop's thread."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Credential] = {}

    def find(self, digest: bytes) -> Credential | None:
        """Return the credential with this digest, also one that has just ended; else None."""
        return self._by_digest.get(digest)

    def all(self) -> Iterator[Credential]:
        """Yield all credentials."""
        yield from self._by_digest.values()
