"""Share links, and PINs of host names."""

from dataclasses import dataclass, field

from zerotrust.db.access_tables import PinRow, ShareLinkRow
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.sign_ins import BrowserInfo, IssuedCookie


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedLink:
    """A new share link. `url` has the secret in its fragment and is shown once."""

    id: str
    url: str = field(repr=False)
    expires_at: int


class ShareLinks:
    """Use cases of share links and PINs.

    Passes that a link has made end with it; passes of a PIN end when the PIN is changed or cleared.
    """

    def __init__(self, state: AccessState) -> None:
        self._state = state

    async def create(
        self,
        url: str,
        *,
        lifetime: float,
        uses: int | None,
        pin: str | None,
        methods: list[str],
        created_by: str,
        actor: str,
    ) -> IssuedLink:
        """Create a link to a path and all below it."""
        raise NotImplementedError

    async def show(self, secret: str, *, host: str) -> ShareLinkRow:
        """Return a link without using it.

        Raises:
            AccessRefused: unknown, expired, revoked or used up, or of another host name.
        """
        raise NotImplementedError

    async def use(
        self, secret: str, *, host: str, pin: str | None, browser: BrowserInfo
    ) -> IssuedCookie:
        """Use a link once: make a pass."""
        raise NotImplementedError

    async def revoke(self, link_id: str, *, actor: str) -> int:
        """Revoke a link; return how many passes ended."""
        raise NotImplementedError

    async def listed(self, *, created_by: str | None = None) -> list[ShareLinkRow]:
        """Return the links in force."""
        raise NotImplementedError

    async def set_pin(self, host: str, pin: str, *, actor: str) -> None:
        """Set the PIN of a host name: 6 digits or more."""
        raise NotImplementedError

    async def clear_pin(self, host: str, *, actor: str) -> bool:
        """Clear the PIN of a host name; return False if there was none."""
        raise NotImplementedError

    async def pins(self) -> list[PinRow]:
        """Return the host names with a PIN."""
        raise NotImplementedError

    async def enter_pin(self, host: str, pin: str, *, browser: BrowserInfo) -> IssuedCookie:
        """Make a pass for whoever knows the PIN.

        Raises:
            AccessRefused: the PIN is wrong, or sleeps after too many guesses.
        """
        raise NotImplementedError
