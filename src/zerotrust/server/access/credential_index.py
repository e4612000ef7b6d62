"""Index of all live sign-ins, passes and tokens by the digest of their secret."""

from collections.abc import Iterator
from typing import Final, TypeVar

from zerotrust.access.subject import Credential, CredentialKind, Subject

MAX_CREDENTIALS: Final = 100_000

_K = TypeVar("_K")


class CredentialIndex:
    """All credentials in force. It belongs to the loop's thread.

    A credential that ends stays until `sweep`, so that its cookie is known to be over.
    """

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Credential] = {}
        self._by_id: dict[CredentialKind, dict[str, Credential]] = {
            kind: {} for kind in CredentialKind
        }
        self._of_user: dict[str, set[Credential]] = {}
        self._of_sign_in: dict[Credential, set[Credential]] = {}
        self._ended: list[Credential] = []

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, digest: bytes) -> Credential | None:
        """Return the credential with this digest, also one that has just ended; else None."""
        return self._by_digest.get(digest)

    def all(self) -> Iterator[Credential]:
        """Yield all credentials."""
        yield from self._by_digest.values()

    def get(self, kind: CredentialKind, id: str) -> Credential | None:
        """Return the credential in force with this id."""
        return self._by_id[kind].get(id)

    def of_kind(self, kind: CredentialKind) -> list[Credential]:
        """Return the credentials of a kind in force."""
        return list(self._by_id[kind].values())

    def of_user(self, user_id: str) -> list[Credential]:
        """Return the sign-ins and app tokens of a user, and the passes of the user's links."""
        return list(self._of_user.get(user_id, ()))

    def passes_of(self, sign_in: Credential) -> list[Credential]:
        """Return the passes that were made from a sign-in."""
        return list(self._of_sign_in.get(sign_in, ()))

    def add(self, credential: Credential) -> None:
        """Add a credential."""
        self._by_digest[credential.digest] = credential
        self._by_id[credential.kind][credential.id] = credential
        if credential.sign_in is not None:
            self._of_sign_in.setdefault(credential.sign_in, set()).add(credential)
        elif user_id := _user_id(credential.subject):
            self._of_user.setdefault(user_id, set()).add(credential)

    def end(self, credential: Credential, reason: str) -> int:
        """End a credential, and the passes made from it; return how many have ended now."""
        if credential.ended:
            return 0
        credential.ended = reason
        count = 1
        for made in self._of_sign_in.pop(credential, ()):
            made.ended = reason
            self._by_id[made.kind].pop(made.id, None)
            self._ended.append(made)
            count += 1
        self._by_id[credential.kind].pop(credential.id, None)
        self._ended.append(credential)
        if credential.sign_in is not None:
            _discard(self._of_sign_in, credential.sign_in, credential)
        elif user_id := _user_id(credential.subject):
            _discard(self._of_user, user_id, credential)
        return count

    def sweep(self) -> None:
        """Forget the credentials that have ended."""
        for credential in self._ended:
            if self._by_digest.get(credential.digest) is credential:
                del self._by_digest[credential.digest]
        self._ended.clear()

    def replace_subject(self, credential: Credential, subject: Subject) -> bool:
        """Give a credential, and the passes made from it, another subject of the same user.

        Returns:
            False if the subject is the same as before.
        """
        if credential.subject == subject:
            return False
        for changed in (credential, *self._of_sign_in.get(credential, ())):
            changed.subject = subject
            changed.verdicts = None
        return True


def _user_id(subject: Subject) -> str:
    """Return the id of the user behind a subject; empty for machines, PINs and links of none."""
    user = subject.owner or subject
    return user.id if user.id.startswith("u_") else ""


def _discard(sets: dict[_K, set[Credential]], key: _K, credential: Credential) -> None:
    found = sets.get(key)
    if found is not None:
        found.discard(credential)
        if not found:
            del sets[key]
