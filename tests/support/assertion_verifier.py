"""Verification of the assertion by the keys at a URL, as libraries for JWT do it.

Keys are fetched when a key id is unknown, and kept.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

HEADER = "X-0Trust-Jwt-Assertion"


class AssertionVerifier:
    """Verifies assertions for one host name.

    Args:
        issuer, audience: required claims.
        fetch_keys: returns the JWKS document.

    Attributes:
        fetches: how many times the keys were fetched.
    """

    def __init__(
        self, *, issuer: str, audience: str, fetch_keys: Callable[[], Awaitable[bytes]]
    ) -> None:
        self.fetches = 0
        self._fetch_keys = fetch_keys
        self._keys = KeySet([])
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )

    async def verify(self, values: Sequence[str]) -> dict[str, Any] | None:
        """Return the claims in the values of a request's fields; None without one valid assertion."""
        if len(values) != 1:
            return None
        for fresh in (False, True):
            if fresh:
                self.fetches += 1
                self._keys = KeySet.import_key_set(json.loads(await self._fetch_keys()))
            try:
                token = jwt.decode(values[0], self._keys, algorithms=["ES256"])
                self._claims.validate(token.claims)
            except (JoseError, ValueError):
                continue
            return token.claims
        return None
