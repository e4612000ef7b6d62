"""Keys of this server that sign assertions and challenges, and the public keys of all servers.

Each server has a key of its own; the private half never leaves its `state.dir`. The public half is
in the database, so every server lists the keys of all, and verifies what another has signed.

A key is used for 30 days. The next one is made a day before, so that backends which fetch the JWKS
document once an hour know it in time. The last one stays listed for a day.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, time
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from zerotrust.access.assertion import ALGORITHM, sign
from zerotrust.accounts.identity_keys import (
    LIFETIME,
    LISTED_AROUND,
    PublicIdentityKey,
    add_key,
    listed_keys,
)
from zerotrust.db.database import Database
from zerotrust.errors import AccessRefused, PkiError, StateError
from zerotrust.pki import keys
from zerotrust.telemetry import logs

_log = logs.logger("identity")

FOLDER: Final = "identity-keys"
CHALLENGE_LIFETIME: Final = 300
"""Seconds for which a challenge is good."""
CHECK_INTERVAL: Final = 60.0
"""Seconds between two looks for new keys of other servers, and at the age of the own one."""
_REFRESH_AFTER: Final = 5.0
"""Seconds after which a JWKS document, or an unknown key, causes another look."""
_CLOCK_SKEW: Final = 60
"""Seconds by which the clocks of two servers may differ."""
_MAX_CHALLENGE: Final = 4096
_CHALLENGE_TYPE: Final = "0trust-challenge"
_NOT_VALID: Final = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""Exceptions that joserfc may raise for text that no server has signed."""


class IdentityKeys:
    """Keys that sign what this server says about its users.

    Args:
        folder: `state.dir`.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder / FOLDER
        self._private: dict[str, ECKey] = {}
        self._listed: list[PublicIdentityKey] = []
        self._public = KeySet([])
        self._read_at = 0.0
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Read the keys; make one if this server has none in force.

        Raises:
            StateError: the database can't be used.
            PkiError: a key can't be read or written.
        """
        self._private = await asyncio.to_thread(_read_folder, self._folder)
        await self.maintain()

    async def keep_fresh(self) -> None:
        """Follow the keys of other servers and rotate the own one, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            try:
                await self.maintain()
            except (StateError, PkiError) as error:
                _log.warning("cannot maintain the identity keys", reason=str(error))

    async def maintain(self) -> None:
        """Read the keys of all servers; make the next key of this one if it is time.

        Raises:
            StateError, PkiError: as `load`.
        """
        await self._read()
        await self._rotate()

    def sign_assertion(self, claims: Mapping[str, Any]) -> bytes:
        """Return an assertion with these claims (`access.assertion.claims_of`).

        Raises:
            StateError: all keys are over, and no new one could be made for two days.
        """
        kid, key = self._signing_key()
        return sign(claims, key, kid=kid)

    async def jwks(self) -> dict[str, Any]:
        """Return the JWKS document with the public keys of all servers (RFC 7517 s5)."""
        with contextlib.suppress(StateError):  # the keys that are known go on being listed
            await self._refresh()
        return {
            "keys": [
                {**key.jwk, "kid": key.kid, "use": "sig", "alg": ALGORITHM} for key in self._listed
            ]
        }

    def sign_challenge(self, data: Mapping[str, Any]) -> str:
        """Return these data in a form that only a server can make, good for five minutes.

        Its end is not called `exp` and its type is not JWT: no backend takes it for an assertion.

        Raises:
            StateError: as `sign_assertion`.
        """
        kid, key = self._signing_key()
        payload = json.dumps({**data, "until": int(time()) + CHALLENGE_LIFETIME})
        header = {"alg": ALGORITHM, "typ": _CHALLENGE_TYPE, "kid": kid}
        return jws.serialize_compact(header, payload.encode(), key, algorithms=[ALGORITHM])

    async def verify_challenge(self, text: str) -> dict[str, Any]:
        """Return the data of a challenge that a server of this database has signed.

        Raises:
            AccessRefused: it was not signed by a server, or is too old.
        """
        if len(text) > _MAX_CHALLENGE:
            raise AccessRefused("the challenge is not valid: try again")
        data = self._opened(text)
        if data is None:
            # Another server may have begun to use a key since the last look.
            with contextlib.suppress(StateError):
                await self._refresh()
            data = self._opened(text)
        if data is None:
            raise AccessRefused("the challenge is not valid: try again")
        if not time() <= data.pop("until", 0) <= time() + CHALLENGE_LIFETIME + _CLOCK_SKEW:
            raise AccessRefused("the challenge is too old: try again")
        return data

    def _opened(self, text: str) -> dict[str, Any] | None:
        try:
            signed = jws.deserialize_compact(text, self._public, algorithms=[ALGORITHM])
            data = json.loads(signed.payload)
        except _NOT_VALID:
            return None
        challenge = signed.headers().get("typ") == _CHALLENGE_TYPE and isinstance(data, dict)
        return data if challenge else None

    def _own(self) -> list[PublicIdentityKey]:
        return [key for key in self._listed if key.kid in self._private]

    def _signing_key(self) -> tuple[str, ECKey]:
        """Return the key in use now: the newest that has begun, else the oldest."""
        now = time()
        own = self._own()
        if not own:
            raise StateError("this server has no identity key: see its log for the reason")
        begun = [key for key in own if key.begins_at <= now]
        kid = (begun[-1] if begun else own[0]).kid
        return kid, self._private[kid]

    async def _refresh(self) -> None:
        async with self._lock:
            if monotonic() - self._read_at >= _REFRESH_AFTER:
                await self._read()

    async def _read(self) -> None:
        """Read the keys of all servers."""
        now = int(time())
        self._listed = await self._database.run(lambda session: listed_keys(session, now=now))
        self._public = KeySet(
            [ECKey.import_key({**key.jwk, "kid": key.kid}) for key in self._listed]
        )
        self._read_at = monotonic()

    async def _rotate(self) -> None:
        """Make the next key a day before the last one ends; forget keys that are over."""
        now = int(time())
        own = self._own()
        if not own or own[-1].ends_at - LISTED_AROUND <= now:
            begins_at = max(now, own[-1].ends_at) if own else now
            server = own[-1].server if own else secrets.token_hex(8)
            await self._add(server, begins_at, now)
        over = self._private.keys() - {key.kid for key in self._listed}
        for kid in over:
            del self._private[kid]
            await asyncio.to_thread(_file(self._folder, kid).unlink, missing_ok=True)

    async def _add(self, server: str, begins_at: int, now: int) -> None:
        private = keys.generate()
        pem = keys.to_pem(private)
        key = ECKey.import_key(pem)
        kid = key.thumbprint()
        public = PublicIdentityKey(
            kid=kid,
            server=server,
            jwk=dict(key.as_dict(private=False, kid=None)),
            begins_at=begins_at,
            ends_at=begins_at + LIFETIME,
        )
        # The file first: a row without its private half would be listed for nothing.
        await asyncio.to_thread(_write, self._folder, kid, pem)
        await self._database.run(lambda session: add_key(session, public, now=now))
        self._private[kid] = key
        await self._read()
        _log.info("identity key made", kid=kid, begins_at=begins_at)


def _file(folder: Path, kid: str) -> Path:
    return folder / f"{kid}.pem"


def _write(folder: Path, kid: str, pem: bytes) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PkiError(f"{folder}: cannot be created: {error.strerror}") from error
    keys.write(_file(folder, kid), pem, mode=keys.PRIVATE, replace=True)


def _read_folder(folder: Path) -> dict[str, ECKey]:
    found = {}
    for path in sorted(folder.glob("*.pem")):
        key = ECKey.import_key(keys.to_pem(keys.read_key(path)))
        found[key.thumbprint()] = key
    return found
