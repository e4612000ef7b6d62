"""Passkey device of a page in Chromium, by the DevTools protocol (domain WebAuthn)."""

from collections.abc import Sequence
from typing import Any, Self

from playwright.async_api import CDPSession, Page

Passkey = dict[str, Any]
"""A passkey with its private key, as the protocol shows it."""


class VirtualAuthenticator:
    """A device that keeps passkeys and always says that its user is there and verified."""

    def __init__(self, session: CDPSession, identifier: str) -> None:
        self._session = session
        self._identifier = identifier

    @classmethod
    async def add(cls, page: Page, *, verified: bool = True) -> Self:
        """Connect a new device to a page.

        Args:
            verified: the device recognises its user.
        """
        session = await page.context.new_cdp_session(page)
        await session.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": verified,
            "automaticPresenceSimulation": True,
        }
        made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return cls(session, made["authenticatorId"])

    async def passkeys(self) -> list[Passkey]:
        """Return all passkeys of the device."""
        found = await self._send("getCredentials")
        passkeys: list[Passkey] = found["credentials"]
        return passkeys

    async def hold(self, passkeys: Sequence[Passkey]) -> None:
        """Let the device hold these passkeys alone."""
        await self._send("clearCredentials")
        for passkey in passkeys:
            await self._send("addCredential", credential=passkey)

    async def remove(self) -> None:
        """Take the device away."""
        await self._send("removeVirtualAuthenticator")

    async def _send(self, command: str, **values: Any) -> dict[str, Any]:
        parameters = {"authenticatorId": self._identifier, **values}
        answer: dict[str, Any] = await self._session.send(f"WebAuthn.{command}", parameters)
        return answer
