"""Header edits that tell a backend who makes a request, remembered for each credential."""

from collections.abc import Sequence
from functools import lru_cache
from time import monotonic, time
from typing import Any, Final, NamedTuple

from zerotrust.access.assertion import claims_of
from zerotrust.access.conditions import person_of
from zerotrust.access.identity_headers import IdentityHeaders
from zerotrust.access.subject import Credential, Subject
from zerotrust.errors import StateError
from zerotrust.middleware.header_edits import Edit, delete_field, set_field
from zerotrust.server.access.identity_keys import IdentityKeys
from zerotrust.telemetry import logs

_log = logs.logger("identity")

REMEMBERED: Final = 240.0
"""Seconds for which the same assertion is sent. It is good for a minute longer."""
MAX_REMEMBERED: Final = 16_384


class IdentityEdits(NamedTuple):
    """Header edits that tell a backend who makes a request.

    Attributes:
        lines: what the edits add, joined.
    """

    edits: Sequence[Edit]
    lines: bytes


class _Remembered(NamedTuple):
    subject: Subject
    headers: IdentityHeaders
    named_groups: frozenset[str]
    named_claims: frozenset[str]
    until: float
    edits: IdentityEdits


class BackendIdentity:
    """Makes the header edits of requests to host names with a gate, or with `identity`.

    Attributes:
        auth_host: the issuer of assertions.
    """

    def __init__(self, keys: IdentityKeys, auth_host: str) -> None:
        self.auth_host = auth_host
        self._keys = keys
        self._remembered: dict[tuple[bytes, str], _Remembered] = {}
        self._warned = False

    def reconfigure(self, auth_host: str) -> None:
        """Use another auth host from the next request on."""
        if auth_host != self.auth_host:
            self.auth_host = auth_host
            self._remembered.clear()

    def edits(
        self,
        credential: Credential | None,
        *,
        host: str,
        named_groups: frozenset[str],
        headers: IdentityHeaders,
        named_claims: frozenset[str] = frozenset(),
    ) -> IdentityEdits:
        """Return the edits of a request, after `access.identity_headers.without_identity_fields`.

        Args:
            credential: None if nobody is known; then the edits remove the fields.
            host: the host name of the request.
            named_groups: groups that the rule of the host name names.
            headers: `identity` of the service.
            named_claims: claims of providers that the rule names; header fields may have them.
        """
        if credential is None:
            return removals(headers)
        now, key = monotonic(), (credential.digest, host)
        known = self._remembered.get(key)
        # The same objects, not equal ones: this runs for each request.
        if (
            known is not None
            and known.subject is credential.subject
            and known.headers is headers
            and known.named_groups == named_groups
            and known.named_claims == named_claims
            and now < known.until
        ):
            return known.edits
        claims = claims_of(
            credential, auth_host=self.auth_host, host=host, named_groups=named_groups, now=time()
        )
        others = (person_of(credential.subject) or credential.subject).claims
        more = {name: others[name] for name in named_claims if name in others}
        edits = self._make(claims, more, headers)
        self._remembered.pop(key, None)
        self._remembered[key] = _Remembered(
            credential.subject, headers, named_groups, named_claims, now + REMEMBERED, edits
        )
        if len(self._remembered) > MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return edits

    def _make(
        self, claims: dict[str, Any], more: dict[str, Any], headers: IdentityHeaders
    ) -> IdentityEdits:
        try:
            assertion = self._keys.sign_assertion(claims)
        except StateError as error:
            if not self._warned:
                self._warned = True
                _log.error("backends are told no identity", reason=str(error))
            return removals(headers)
        values = dict(headers.fields({**more, **claims}, assertion))
        edits = [
            set_field(name, [values[name]]) if name in values else delete_field(name)
            for name in headers.names
        ]
        return IdentityEdits(edits, b"".join(edit.lines for edit in edits))


@lru_cache(maxsize=1024)
def removals(headers: IdentityHeaders) -> IdentityEdits:
    """Return the edits that remove all fields of a service."""
    return IdentityEdits(tuple(delete_field(name) for name in headers.names), b"")
