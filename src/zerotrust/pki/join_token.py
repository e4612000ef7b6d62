"""Join token: the address of the server, a secret for one agent, and the fingerprint of the CA.

    0trust-join-1.BASE64URL({"server": "tunnel.example.com:8443", "token": …, "fingerprint": …})

The fingerprint is the SHA-256 of the root's certificate (DER): the agent knows the CA before it
sends anything, so an attacker between them cannot pose as the server and take the secret.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from zerotrust.errors import PkiError
from zerotrust.model.base import split_address

PREFIX: Final = "0trust-join-1."
MAX_CHARACTERS: Final = 4096
DEFAULT_PORT: Final = 8443
_OTHER_VERSION: Final = re.compile(r"0trust-join-\d+\.")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}\Z")
_SECRET: Final = re.compile(r"[!-~]{1,512}\Z")


@dataclass(frozen=True, kw_only=True)
class JoinToken:
    """A parsed join token. `server` is "host:port", `fingerprint` is lower-case hexadecimal."""

    server: str
    secret: str = field(repr=False)
    fingerprint: str

    def __str__(self) -> str:
        fields = {"server": self.server, "token": self.secret, "fingerprint": self.fingerprint}
        text = json.dumps(fields, separators=(",", ":")).encode()
        return PREFIX + base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        return split_address(self.server, default_port=DEFAULT_PORT)


def parse(text: str) -> JoinToken:
    """Return the join token in a text.

    White space is ignored: terminals and mail programs add it.

    Raises:
        PkiError: it is not a join token, or incomplete. The message does not repeat it: it is
            secret.
    """
    if len(text) > MAX_CHARACTERS:
        raise PkiError(f"not a join token: it has more than {MAX_CHARACTERS} characters")
    token = "".join(text.split())
    if not token.startswith(PREFIX):
        if _OTHER_VERSION.match(token):
            raise PkiError(
                "this join token is for another version of 0trust; update this machine or the"
                " server"
            )
        raise PkiError(
            f"not a join token: one begins with {PREFIX}; create one with: 0trust tokens create"
        )
    try:
        return _checked(token.removeprefix(PREFIX))
    except (ValueError, KeyError, TypeError, RecursionError):
        # Not as its cause: an error of json shows the text that it could not read.
        raise PkiError(
            "the join token is incomplete; copy all of it, or create another one"
        ) from None


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate in the form that join tokens use."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _checked(payload: str) -> JoinToken:
    try:
        text = base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    fields = json.loads(text)
    server, secret, print_of_root = values = (
        fields["server"],
        fields["token"],
        fields["fingerprint"],
    )
    if not all(isinstance(value, str) for value in values):
        raise ValueError("not text")
    found = JoinToken(server=server, secret=secret, fingerprint=print_of_root)
    host, port = found.address
    if not (
        host and port and _FINGERPRINT.match(found.fingerprint) and _SECRET.match(found.secret)
    ):
        raise ValueError("something is missing")
    if any(
        character.isspace() or not character.isprintable() or character in "/@?#\\"
        for character in host
    ):
        raise ValueError("invalid address")
    return found
