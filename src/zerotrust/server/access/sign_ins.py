"""Sign-ins, their hand-over to services, passes, pairing, and their end."""

from dataclasses import dataclass, field

from zerotrust.access.subject import Credential
from zerotrust.db.access_tables import SignInRow
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.people import ProviderAccount


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserInfo:
    """Where a sign-in comes from, for the list of sessions."""

    client: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCookie:
    """A new credential with the value of its cookie."""

    value: str = field(repr=False)
    credential: Credential
    target: str = "/"
    """Path and query to continue with, after a hand-over."""


class SignIns:
    """Use cases of sign-ins and passes.

    The methods raise AccessRefused where someone may not do what they ask (a code that does not
    fit, a disabled user), and StateError where the database can't be used.
    """

    def __init__(self, state: AccessState) -> None:
        self._state = state

    async def by_provider(
        self, account: ProviderAccount, browser: BrowserInfo, *, spent: bytes
    ) -> IssuedCookie:
        """Sign in the user of a provider's account; the first time, create the user.

        Args:
            spent: digest of the attempt's random value, which is used up in the same transaction.
        """
        raise NotImplementedError

    async def by_passkey(
        self,
        credential_id: bytes,
        browser: BrowserInfo,
        *,
        counter: int,
        backed_up: bool,
        spent: bytes,
    ) -> IssuedCookie:
        """Sign in the user of a passkey whose signature has been verified.

        A counter that is not above the stored one, unless both are 0, refuses the passkey: it may
        have been cloned.
        """
        raise NotImplementedError

    async def prove_again(self, sign_in: Credential) -> None:
        """Note that the user has just proven their identity again (`fresh`, `max_age`)."""
        raise NotImplementedError

    async def hand_over(
        self, sign_in: Credential, *, host: str, challenge: bytes, target: str
    ) -> str:
        """Return a one-time code, good for 60 s, that carries a sign-in to a host name."""
        raise NotImplementedError

    async def accept_hand_over(self, code: str, *, host: str, verifier: bytes) -> IssuedCookie:
        """Use up a code and make a pass for its host name.

        Args:
            verifier: SHA-256 of it is the challenge.
        """
        raise NotImplementedError

    async def sign_out(self, sign_in: Credential, *, everywhere: bool) -> int:
        """End a sign-in (with `everywhere` all of its user) with its passes; return how many."""
        raise NotImplementedError

    async def end(self, number: int, *, actor: str) -> None:
        """End one sign-in."""
        raise NotImplementedError

    async def end_all(self, user: str, *, actor: str) -> int:
        """End all sign-ins of a user; return how many."""
        raise NotImplementedError

    async def provider_logout(self, provider: str, *, session: str, subject: str) -> int:
        """End sign-ins by the provider's back-channel logout; return how many.

        Args:
            session: claim `sid`; empty to end all sign-ins of the subject.
        """
        raise NotImplementedError

    async def of_user(self, user_id: str) -> list[SignInRow]:
        """Return the sign-ins of a user in force, the newest first."""
        raise NotImplementedError

    async def listed(self, user: str | None = None) -> list[tuple[SignInRow, str]]:
        """Return all sign-ins in force (of one user), each with the user's name."""
        raise NotImplementedError

    async def create_pairing(self, sign_in: Credential) -> tuple[str, int]:
        """Return a code of 8 characters for a device, and the time at which it expires."""
        raise NotImplementedError

    async def pair(self, code: str, browser: BrowserInfo) -> IssuedCookie:
        """Use up a pairing code and sign the device in, for `sessions.device_lifetime`."""
        raise NotImplementedError

    async def due_rechecks(self) -> list[tuple[str, str, str]]:
        """Return provider, subject and refresh token of accounts to ask again by now (`recheck`).

        Only accounts with a sign-in in force.
        """
        raise NotImplementedError

    async def rechecked(self, account: ProviderAccount) -> None:
        """Store what a provider has said on a recheck; groups that are gone cut at once."""
        raise NotImplementedError

    async def refused_by_provider(self, provider: str, subject: str) -> int:
        """End the sign-ins of an account whose provider refused its refresh token."""
        raise NotImplementedError
