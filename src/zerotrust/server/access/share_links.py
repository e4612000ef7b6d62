"""Share links, and PINs of host names."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from sqlalchemy.orm import Session

from zerotrust.access.secret_format import digest_of, new_cookie
from zerotrust.access.subject import Credential
from zerotrust.accounts import passes, pins, share_links
from zerotrust.accounts.refusals import refuse
from zerotrust.db.access_tables import PassRow, PinRow, ShareLinkRow
from zerotrust.errors import AccessRefused
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.pin_checks import PinChecks
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
    The methods raise AccessError for requests that are not possible, and StateError where the
    database can't be used. `use` and `enter_pin` count the attempts of the browser's network
    (`AccessState.admit`).
    """

    def __init__(self, state: AccessState) -> None:
        self._state = state
        self._checks = PinChecks(state.clock)

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
        """Create a link to a path and all below it, good for 30 days at most.

        Args:
            uses: how often it may be opened; None for no limit.
            methods: empty for GET and HEAD.
            created_by: id of the user; or an actor such as "uid 0".
        """
        host, path = share_links.parse_url(url)
        pin_hash = None if pin is None else await self._checks.hash(pins.check_pin(pin))

        def work(session: Session, now: int) -> tuple[ShareLinkRow, str]:
            return share_links.create(
                session,
                host=host,
                path=path,
                methods=methods,
                lifetime=lifetime,
                uses=uses,
                pin_hash=pin_hash,
                created_by=created_by,
                actor=actor,
                now=now,
            )

        row, secret = await self._state.run(work)
        url = f"https://{host}/.0trust/share#{secret}"
        return IssuedLink(id=row.id, url=url, expires_at=row.expires_at)

    async def show(self, secret: str, *, host: str) -> ShareLinkRow:
        """Return a link without using it.

        Raises:
            AccessRefused: unknown, expired, revoked or used up, or of another host name.
        """
        return await self._find(secret, host, "unknown")

    async def use(
        self, secret: str, *, host: str, pin: str | None, browser: BrowserInfo
    ) -> IssuedCookie:
        """Use a link once: make a pass.

        Raises:
            AccessRefused: as `show`; or the link has a PIN, and it is wrong or sleeps.
        """
        self._state.admit(browser.client)
        row = await self._find(secret, host, browser.client)
        if row.pin_hash is not None:
            await self._check(pin or "", row.pin_hash, f"link {row.id}", browser)

        def work(session: Session, now: int, digest: bytes) -> PassRow:
            return share_links.use(
                session,
                secret,
                host=host,
                pass_digest=digest,
                client=browser.client,
                now=now,
                rationed=self._state.rationed,
            )

        return await self._issued(work, row.path)

    async def revoke(self, link_id: str, *, actor: str, created_by: str | None = None) -> int:
        """Revoke a link (of one creator); return how many passes ended."""
        return await self._state.run(
            lambda session, now: share_links.revoke(
                session, link_id, created_by=created_by, actor=actor, now=now
            )
        )

    async def listed(self, *, created_by: str | None = None) -> list[ShareLinkRow]:
        """Return the links (of one creator) that are neither revoked nor expired."""
        return await self._state.run(
            lambda session, now: share_links.in_force(session, created_by, now=now)
        )

    async def sign_out(self, visitor: Credential) -> None:
        """End the pass of a visitor, which a link or a PIN has made.

        There is no audit record: visitors can make and end passes as often as they like.
        """
        number = int(visitor.id)
        await self._state.run(lambda session, now: passes.end_of_visitor(session, number, now=now))

    async def set_pin(self, host: str, pin: str, *, actor: str) -> None:
        """Set the PIN of a host name: 6 digits or more."""
        pin_hash = await self._checks.hash(pins.check_pin(pin))
        await self._state.run(
            lambda session, now: pins.put(session, host, pin_hash, actor=actor, now=now)
        )

    async def clear_pin(self, host: str, *, actor: str) -> bool:
        """Clear the PIN of a host name; return False if there was none."""
        return await self._state.run(
            lambda session, now: pins.clear(session, host, actor=actor, now=now)
        )

    async def pins(self) -> list[PinRow]:
        """Return the host names with a PIN."""
        return await self._state.run(lambda session, now: pins.listed(session))

    async def enter_pin(self, host: str, pin: str, *, browser: BrowserInfo) -> IssuedCookie:
        """Make a pass for a visitor who knows the PIN; good for `sessions.lifetime`.

        Raises:
            AccessRefused: the PIN is wrong, or sleeps after too many guesses.
        """
        self._state.admit(browser.client)
        found = await self._state.run(lambda session, now: session.get(PinRow, host))
        if found is None:
            raise AccessRefused(f"{host} has no PIN")
        pin_hash = found.pin_hash
        await self._check(pin, pin_hash, host, browser)

        def work(session: Session, now: int, digest: bytes) -> PassRow:
            return pins.use(
                session,
                host,
                pin_hash,
                pass_digest=digest,
                ends_at=now + int(self._state.access.sessions.lifetime),
                client=browser.client,
                now=now,
                rationed=self._state.rationed,
            )

        return await self._issued(work, "/")

    async def _find(self, secret: str, host: str, client: str) -> ShareLinkRow:
        return await self._state.run(
            lambda session, now: share_links.find(
                session, secret, host=host, client=client, now=now, rationed=self._state.rationed
            )
        )

    async def _check(self, pin: str, pin_hash: str, of: str, browser: BrowserInfo) -> None:
        if await self._checks.is_right(pin, pin_hash, browser.client):
            return
        asleep = self._checks.is_asleep(pin_hash)

        def work(session: Session, now: int) -> NoReturn:
            refuse(
                session,
                "wrong PIN",
                kind="pin",
                actor=browser.client,
                now=now,
                rationed=self._state.rationed,
                details={"of": of},
            )

        if asleep:
            await self._state.run(lambda session, now: pins.record_asleep(session, of, now=now))
        await self._state.run(work)

    async def _issued(
        self, work: Callable[[Session, int, bytes], PassRow], target: str
    ) -> IssuedCookie:
        await self._state.make_room()
        value = new_cookie()
        digest = digest_of(value.encode())
        await self._state.run(lambda session, now: work(session, now, digest))
        credential = self._state.index.find(digest)
        if credential is None:
            raise AccessRefused("this link has ended; ask for a new one")
        return IssuedCookie(value=value, credential=credential, target=target)
