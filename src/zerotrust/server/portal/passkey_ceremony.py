"""WebAuthn ceremonies: registration of a passkey, and sign-in with one.

Passkeys are discoverable and verify their user; attestation is not asked for. A challenge is signed
by a server, so that no table of challenges is needed and every server accepts it. It is good for
five minutes, and once: its random value is spent together with the sign-in.
"""

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, TypedDict, TypeVar, cast

from fido2 import cbor
from fido2.cose import CoseKey
from fido2.server import Fido2Server
from fido2.utils import websafe_encode
from fido2.webauthn import (
    AttestationConveyancePreference,
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from zerotrust.access.secret_format import digest_of
from zerotrust.db.access_tables import PasskeyRow
from zerotrust.errors import AccessRefused
from zerotrust.server.access.people import NewPasskey

MAX_CREDENTIAL_ID: Final = 1023
"""Longest id of a passkey in bytes (WebAuthn s5.8.3)."""

ALGORITHMS: Final = (-7, -8, -257)
"""ES256, EdDSA and RS256: what authenticators have."""
_TIMEOUT: Final = 300_000
_SIGN_IN: Final = "sign_in"
_REGISTER: Final = "register"
_NOT_ACCEPTED: Final = "this passkey was not accepted; try again"
_REQUIRED: Final = UserVerificationRequirement.REQUIRED
_Response = TypeVar("_Response", AuthenticationResponse, RegistrationResponse)


class ChallengeKeys(Protocol):
    """Signs challenges, and verifies those of all servers (`server.access.identity_keys`)."""

    def sign_challenge(self, data: Mapping[str, Any]) -> str:
        """Return these data in a form that only a server can make, good for five minutes."""

    async def verify_challenge(self, text: str) -> dict[str, Any]:
        """Return the data of a challenge.

        Raises:
            AccessRefused: no server has signed it, or it is too old.
        """


class ProofArguments(TypedDict):
    """Arguments of `SignIns.by_passkey` and `SignIns.prove_again`."""

    counter: int
    backed_up: bool
    spent: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPasskey:
    """A passkey that has just signed a challenge.

    Attributes:
        spent: digest of the challenge's random value.
    """

    credential_id: bytes
    user_id: str
    counter: int
    backed_up: bool
    spent: bytes

    @property
    def use(self) -> ProofArguments:
        """Return the arguments of the use cases that sign in."""
        return {"counter": self.counter, "backed_up": self.backed_up, "spent": self.spent}


@lru_cache(maxsize=4)
def _fido2_server(rp_id: str, origin: str) -> Fido2Server:
    """Return the library's server, which keeps nothing of a ceremony; making one takes 3 ms."""
    server = Fido2Server(
        PublicKeyCredentialRpEntity(name=rp_id, id=rp_id),
        attestation=AttestationConveyancePreference.NONE,
        verify_origin=lambda found: found == origin,
    )
    server.timeout = _TIMEOUT  # type: ignore[assignment]  # annotated as None there
    server.allowed_algorithms = [
        parameters for parameters in server.allowed_algorithms if parameters.alg in ALGORITHMS
    ]
    return server


class PasskeyCeremony:
    """The server's part of the ceremonies.

    Args:
        origin: origin of the auth host, `https://auth.example.com`; no other is accepted.
    """

    def __init__(self, *, rp_id: str, origin: str, keys: ChallengeKeys) -> None:
        self._rp_id = rp_id
        self._keys = keys
        self._server = _fido2_server(rp_id, origin)

    def sign_in_options(self) -> dict[str, Any]:
        """Return PublicKeyCredentialRequestOptionsJSON with a new challenge."""
        options, _ = self._server.authenticate_begin(
            user_verification=_REQUIRED, challenge=self._challenge(_SIGN_IN)
        )
        return dict(options.public_key)

    def registration_options(
        self, *, user_id: str, name: str, shown_name: str, existing: Sequence[PasskeyRow]
    ) -> dict[str, Any]:
        """Return PublicKeyCredentialCreationOptionsJSON with a new challenge.

        Args:
            existing: the user's passkeys; a device has one only.
        """
        options, _ = self._server.register_begin(
            PublicKeyCredentialUserEntity(
                id=user_id.encode(), name=name, display_name=shown_name or name
            ),
            credentials=[
                PublicKeyCredentialDescriptor(
                    type=PublicKeyCredentialType.PUBLIC_KEY, id=row.credential_id
                )
                for row in existing
                if row.rp_id == self._rp_id
            ],
            resident_key_requirement=ResidentKeyRequirement.REQUIRED,
            user_verification=_REQUIRED,
            challenge=self._challenge(_REGISTER, user_id),
        )
        return dict(options.public_key)

    async def verify_sign_in(
        self, text: str, find: Callable[[bytes], Awaitable[PasskeyRow | None]]
    ) -> VerifiedPasskey:
        """Verify an AuthenticationResponseJSON.

        Args:
            find: returns the passkey with an id. Its user may be disabled.

        Raises:
            AccessRefused: it does not prove the possession of a passkey of this server.
        """
        response = _parsed(AuthenticationResponse, text)
        data = await self._opened(response.response.client_data, _SIGN_IN)
        row = await find(response.raw_id) if len(response.raw_id) <= MAX_CREDENTIAL_ID else None
        if row is None or row.rp_id != self._rp_id:
            raise AccessRefused(
                "this passkey is not known here; remove it from your device, and ask for a new"
                " invitation"
            )
        handle = response.response.user_handle
        if handle is not None and handle != row.user_id.encode():
            raise AccessRefused(_NOT_ACCEPTED)
        self._check_signature(response, row)
        authenticator = response.response.authenticator_data
        return VerifiedPasskey(
            credential_id=row.credential_id,
            user_id=row.user_id,
            counter=authenticator.counter,
            backed_up=_backed_up(authenticator),
            spent=digest_of(data["r"].encode()),
        )

    async def verify_registration(self, text: str, user_id: str, *, label: str) -> NewPasskey:
        """Verify a RegistrationResponseJSON.

        Raises:
            AccessRefused: it does not answer a challenge for this user.
        """
        response = _parsed(RegistrationResponse, text)
        data = await self._opened(response.response.client_data, _REGISTER)
        if data.get("user") != user_id:
            raise AccessRefused(_NOT_ACCEPTED)
        try:
            authenticator = self._server.register_complete(
                _state(response.response.client_data), response
            )
            found = authenticator.credential_data
            acceptable = (
                found is not None
                and found.public_key.get(3) in ALGORITHMS
                and 0 < len(found.credential_id) <= MAX_CREDENTIAL_ID
                and found.credential_id == response.raw_id
            )
        except Exception as error:  # the library raises many kinds
            raise AccessRefused(_NOT_ACCEPTED) from error
        if found is None or not acceptable:
            raise AccessRefused(_NOT_ACCEPTED)
        return NewPasskey(
            credential_id=found.credential_id,
            public_key=cbor.encode(dict(found.public_key)),
            rp_id=self._rp_id,
            counter=authenticator.counter,
            backed_up=_backed_up(authenticator),
            label=label,
        )

    def _challenge(self, purpose: str, user_id: str = "") -> bytes:
        data = {"for": purpose, "r": secrets.token_urlsafe(16), "user": user_id}
        return self._keys.sign_challenge(data).encode("ascii")

    async def _opened(self, client_data: CollectedClientData, purpose: str) -> dict[str, Any]:
        try:
            text = client_data.challenge.decode("ascii")
        except UnicodeDecodeError:
            raise AccessRefused(_NOT_ACCEPTED) from None
        data = await self._keys.verify_challenge(text)
        if data.get("for") != purpose or client_data.cross_origin:
            raise AccessRefused(_NOT_ACCEPTED)
        return data

    def _check_signature(self, response: AuthenticationResponse, row: PasskeyRow) -> None:
        try:
            key = CoseKey.parse(cast("dict[int, Any]", cbor.decode(row.public_key)))
            known = AttestedCredentialData.create(b"\0" * 16, row.credential_id, key)
            self._server.authenticate_complete(
                _state(response.response.client_data), [known], response
            )
        except Exception as error:  # the library raises many kinds
            raise AccessRefused(_NOT_ACCEPTED) from error


def _parsed(kind: type[_Response], text: str) -> _Response:
    """Return a browser's answer from its JSON."""
    try:
        parsed: _Response | None = kind.from_dict(json.loads(text))
    except Exception as error:  # the library raises many kinds for malformed answers
        raise AccessRefused(_NOT_ACCEPTED) from error
    if parsed is None:  # JSON's null
        raise AccessRefused(_NOT_ACCEPTED)
    return parsed


def _state(client_data: CollectedClientData) -> dict[str, Any]:
    """Return the state that the library asks for: this challenge has been verified already."""
    return {"challenge": websafe_encode(client_data.challenge), "user_verification": _REQUIRED}


def _backed_up(authenticator: AuthenticatorData) -> bool:
    return bool(authenticator.flags & AuthenticatorData.FLAG.BS)
