"""Authenticator in software: makes passkeys and signs with them, as a browser returns it."""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData

Flag = AuthenticatorData.FLAG


@dataclass
class Authenticator:
    """A device with one passkey.

    Attributes:
        origin: origin that the browser says it is at.
        verified: the user was verified.
        step: by how much the counter rises with each use.
    """

    origin: str = "https://auth.example.com"
    verified: bool = True
    step: int = 0
    counter: int = 0
    cross_origin: bool = False
    rp_id: str = ""
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    user_handle: str | None = None

    def create(self, options: dict[str, Any]) -> str:
        """Return a RegistrationResponseJSON."""
        self.rp_id = options["rp"]["id"]
        self.user_handle = options["user"]["id"]
        self.counter += self.step
        key = ES256.from_cryptography_key(self.key.public_key())  # type: ignore[no-untyped-call]
        credential = AttestedCredentialData.create(b"\0" * 16, self.credential_id, key)
        data = AuthenticatorData.create(
            self._rp_hash(), self._flags() | Flag.AT, self.counter, credential
        )
        return self._answer(
            {
                "clientDataJSON": websafe_encode(self._client_data("webauthn.create", options)),
                "attestationObject": websafe_encode(AttestationObject.create("none", data, {})),
                "transports": ["internal"],
            }
        )

    def get(self, options: dict[str, Any], **changed: Any) -> str:
        """Return an AuthenticationResponseJSON."""
        self.counter += self.step
        client_data = self._client_data("webauthn.get", options)
        data = AuthenticatorData.create(self._rp_hash(), self._flags(), self.counter)
        signature = self.key.sign(
            bytes(data) + hashlib.sha256(client_data).digest(), ec.ECDSA(SHA256())
        )
        answer = {
            "clientDataJSON": websafe_encode(client_data),
            "authenticatorData": websafe_encode(data),
            "signature": websafe_encode(signature),
            "userHandle": self.user_handle,
        }
        return self._answer({**answer, **changed})

    def _rp_hash(self) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest()

    def _flags(self) -> Flag:
        return Flag.UP | Flag.BE | Flag.BS | (Flag.UV if self.verified else Flag(0))

    def _client_data(self, kind: str, options: dict[str, Any]) -> bytes:
        data = {
            "type": kind,
            "challenge": options["challenge"],
            "origin": self.origin,
            "crossOrigin": self.cross_origin,
        }
        return json.dumps(data).encode()

    def _answer(self, response: dict[str, Any]) -> str:
        key = websafe_encode(self.credential_id)
        return json.dumps(
            {
                "id": key,
                "rawId": key,
                "type": "public-key",
                "authenticatorAttachment": "platform",
                "clientExtensionResults": {},
                "response": response,
            }
        )


def challenge_in(options: dict[str, Any]) -> bytes:
    """Return the challenge of options."""
    return websafe_decode(options["challenge"])
