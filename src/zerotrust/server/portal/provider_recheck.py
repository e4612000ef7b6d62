"""Asks identity providers again whether their users may still sign in (`recheck`).

A provider that refuses a refresh token ends the sign-ins of its user. A provider that does not
answer ends nothing: it may be published by an agent of this server, or be down for an hour.
"""

import asyncio
import random
from typing import Final

from zerotrust.errors import AccessRefused, ProviderFailed, StateError
from zerotrust.limits.ttl_cache import TtlCache
from zerotrust.server.access.sign_ins import SignIns
from zerotrust.server.portal.oidc import OidcProvider, Providers
from zerotrust.telemetry import logs

_log = logs.logger("sign_in")

PAUSE: Final = 10.0
"""Seconds between two looks for accounts that are due."""
AT_ONCE: Final = 8
"""Exchanges with providers at the same time."""
FAILED_PAUSE: Final = 60.0
"""Seconds until the provider is asked again about an account after a failure."""
MAX_FAILED: Final = 10_000


class Rechecks:
    """Rechecks the accounts of all providers.

    Args:
        pause: seconds between two looks for accounts that are due.
    """

    def __init__(self, sign_ins: SignIns, providers: Providers, *, pause: float = PAUSE) -> None:
        self._sign_ins = sign_ins
        self._providers = providers
        self._pause = pause
        self._failed: TtlCache[bool] = TtlCache(MAX_FAILED)

    async def run(self) -> None:
        """Recheck until cancelled."""
        while True:
            # Servers that share a database must not ask at the same moment.
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311
            try:
                await self.recheck()
            except StateError as error:
                _log.warning("cannot recheck sign-ins", reason=str(error))

    async def recheck(self) -> None:
        """Ask about all accounts that are due.

        Raises:
            StateError: the database can't be used.
        """
        free = asyncio.Semaphore(AT_ONCE)

        async def one(provider: OidcProvider, subject: str, token: str) -> None:
            async with free:
                await self._one(provider, subject, token)

        due = await self._sign_ins.due_rechecks()
        async with asyncio.TaskGroup() as group:
            for name, subject, token in due:
                provider = self._providers.find(name)
                if provider is not None:
                    group.create_task(one(provider, subject, token))

    async def _one(self, provider: OidcProvider, subject: str, token: str) -> None:
        now = asyncio.get_running_loop().time()
        account_key = f"{provider.name}\0{subject}".encode()
        if self._failed.get(account_key, now):
            return
        try:
            await self._ask(provider, subject, token)
        except ProviderFailed as error:
            self._failed.put(account_key, True, until=now + FAILED_PAUSE)
            _log.warning(
                "the identity provider was not asked again; sign-ins stay",
                provider=provider.name,
                reason=str(error),
            )
        except StateError as error:  # the other accounts may have new refresh tokens to store
            _log.warning("cannot store a recheck", provider=provider.name, reason=str(error))

    async def _ask(self, provider: OidcProvider, subject: str, token: str) -> None:
        try:
            account = await provider.refresh(subject, token)
        except AccessRefused as error:
            ended = await self._sign_ins.refused_by_provider(provider.name, subject, refresh=token)
            _log.info(
                "the identity provider refuses a user",
                provider=provider.name,
                subject=subject,
                reason=str(error),
                ended=ended,
            )
        else:
            await self._sign_ins.rechecked(account)
