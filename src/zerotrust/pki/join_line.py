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
_TOKEN: Final = re.compile(r"[!-~]{1,512}\Z")


@dataclass(frozen=True, kw_only=True)
class JoinLine:
    """A parsed join token. `server` is "host:port", `fingerprint` is lower-case hexadecimal."""

    server: str
    token: str = field(repr=False)
    fingerprint: str

    def __str__(self) -> str:
        said = {"server": self.server, "token": self.token, "fingerprint": self.fingerprint}
        text = json.dumps(said, separators=(",", ":")).encode()
        return PREFIX + base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        return split_address(self.server, default_port=DEFAULT_PORT)


def parse(text: str) -> JoinLine:
    """Return the join token in a text. White space is ignored: terminals and mail programs add it.

    Raises:
        PkiError: it is not a join token, or incomplete. The message does not repeat it: it is secret.
    """
    if len(text) > MAX_CHARACTERS:
        raise PkiError(f"not a join token: it has more than {MAX_CHARACTERS} characters")
    line = "".join(text.split())
    if not line.startswith(PREFIX):
        if _OTHER_VERSION.match(line):
            raise PkiError("this join token is for another version of 0trust; update this machine or the server")
        raise PkiError(f"not a join token: one begins with {PREFIX}; create one with: 0trust tokens create")
    try:
        return _checked(line.removeprefix(PREFIX))
    except (ValueError, KeyError, TypeError, RecursionError):
        # Not as its cause: an error of json shows the text that it could not read.
        raise PkiError("the join token is incomplete; copy all of it, or create another one") from None


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate in the form that join tokens use."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _checked(payload: str) -> JoinLine:
    try:
        text = base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    said = json.loads(text)
    server, token, print_of_root = values = said["server"], said["token"], said["fingerprint"]
    if not all(isinstance(value, str) for value in values):
        raise ValueError("not text")
    line = JoinLine(server=server, token=token, fingerprint=print_of_root)
    host, port = line.address
    if not (host and port and _FINGERPRINT.match(line.fingerprint) and _TOKEN.match(line.token)):
        raise ValueError("something is missing")
    if any(character.isspace() or not character.isprintable() or character in "/@?#\\" for character in host):
        raise ValueError("the address is none")
    return line
