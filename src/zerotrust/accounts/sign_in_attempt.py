"""An attempt to sign in, with the checks that may refuse it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from sqlalchemy.orm import Session

from zerotrust.accounts import sign_ins, users
from zerotrust.accounts.refusals import Rationed, refuse
from zerotrust.db.access_tables import PasskeyRow, SignInRow, UserRow

_BROWSER_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeySignature:
    """A verified signature of a passkey.

    Attributes:
        spent: digest of the challenge.
    """

    credential_id: bytes
    counter: int
    backed_up: bool
    spent: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInAttempt:
    """An attempt of a browser to sign in, in a transaction.

    Attributes:
        method: `passkey`, `oidc` or `device`.
        client: address of the browser.
        user_agent: as the browser says.
        is_active: tells whether a user may sign in.
    """

    session: Session
    method: str
    client: str
    user_agent: str
    now: int
    is_active: Callable[[UserRow], bool]
    rationed: Rationed

    def spend(self, digest: bytes) -> None:
        """Use up the one-time value of the attempt.

        Raises:
            AccessRefused: it was used before.
        """
        if not sign_ins.spend(self.session, digest, now=self.now):
            self.refuse("this attempt to sign in was completed before; start again")

    def use_passkey(self, use: PasskeySignature) -> UserRow:
        """Note the use of a passkey; return its user.

        Raises:
            AccessRefused: it is unknown, or may have been copied, or its user is disabled.
        """
        self.spend(use.spent)
        passkey = self.session.get(PasskeyRow, use.credential_id)
        if passkey is None:
            self.refuse("this passkey is not known here")
        if (use.counter or passkey.counter) and use.counter <= passkey.counter:
            self.refuse("this passkey may have been copied; ask an administrator for a new one")
        user = users.by_id(self.session, passkey.user_id)
        self.check_active(user)
        passkey.counter, passkey.backed_up, passkey.used_at = use.counter, use.backed_up, self.now
        return user

    def check_active(self, user: UserRow) -> None:
        """Check that a user may sign in.

        Raises:
            AccessRefused: the user is disabled, or gone from the server's file.
        """
        if not self.is_active(user):
            self.refuse(f"the account {user.name} is disabled; ask an administrator")

    def begin(
        self,
        user: UserRow,
        digest: bytes,
        *,
        lifetime: float,
        proven_at: int | None = None,
        provider: str = "",
        provider_subject: str = "",
        provider_session: str = "",
    ) -> None:
        """Begin the sign-in of a user.

        Args:
            digest: SHA-256 of the cookie.
            proven_at: last proof of identity; None for now.
        """
        row = SignInRow(
            digest=digest,
            user_id=user.id,
            method=self.method,
            created_at=self.now,
            proven_at=self.now if proven_at is None else proven_at,
            seen_at=self.now,
            ends_at=self.now + int(lifetime),
            provider=provider,
            provider_subject=provider_subject,
            provider_session=provider_session[:255],
            client=self.client[:64],
            browser=_printable(self.user_agent[:_BROWSER_LENGTH]),
        )
        sign_ins.begin(self.session, user, row)

    def refuse(self, message: str) -> NoReturn:
        """Refuse the attempt.

        Raises:
            AccessRefused: always.
        """
        refuse(
            self.session,
            message,
            kind=self.method,
            actor=self.client,
            now=self.now,
            rationed=self.rationed,
        )


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
