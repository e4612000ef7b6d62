"""Checks a certificate that a server has sent to this agent.

A compromised server can answer with any certificate. A certificate that a genuine server refuses
would lock the agent out for good. So the agent makes a TLS handshake with itself in memory, with
the settings of a genuine server. Only a certificate that passes it replaces the one in use.
"""

import datetime
import ssl
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from zerotrust.errors import PkiError
from zerotrust.net.tls import tunnel_server
from zerotrust.pki import keys, pem_chain
from zerotrust.pki.identity import agent_id_of

MAX_CERTIFICATES: Final = 4
"""Certificates in a chain. A server refuses a longer chain from an agent whose certificate has
expired, so that agent could not renew it. Chains of 0Trust have two."""
MAX_AHEAD: Final = datetime.timedelta(days=1)
"""A certificate may become valid at most this long after now, by this machine's clock. The server
decides by its own clock, and an agent whose clock is behind must be able to renew."""
_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL."""


@dataclass(frozen=True, kw_only=True)
class AcceptedCertificate:
    """A certificate that a genuine server accepts.

    Attributes:
        chain_pem: the certificate and the intermediate certificates, without other data that was
            sent.
    """

    certificate: x509.Certificate
    chain_pem: bytes


def check(
    pem: bytes, key: keys.Key, *, agent_id: str, root_pem: bytes, folder: Path | None = None
) -> AcceptedCertificate:
    """Return the certificate that a server has sent for this key.

    Args:
        root_pem: the root that agents and servers verify each other by.
        folder: folder for temporary files, because OpenSSL reads keys from files only; by default
            the system's temporary folder.

    Raises:
        PkiError: it can't be read, is for another agent or key, or a genuine server would refuse
            it.
    """
    try:
        certificates = pem_chain.parse(pem)
    except PkiError as error:
        raise PkiError("what the server sent is not a certificate") from error
    if len(certificates) > MAX_CERTIFICATES:
        raise PkiError(
            f"the server sent {len(certificates)} certificates; a chain has at most"
            f" {MAX_CERTIFICATES}"
        )
    certificate = certificates[0]
    if certificate.public_key() != key.public_key() or agent_id_of(certificate) != agent_id:
        raise PkiError("the server sent a certificate that is not for this agent and its new key")
    now = datetime.datetime.now(datetime.UTC)
    if certificate.not_valid_after_utc <= now:
        raise PkiError(
            "the server sent a certificate that has expired by this machine's clock; compare the"
            " clocks"
        )
    if certificate.not_valid_before_utc > now + MAX_AHEAD:
        begins = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise PkiError(f"the server sent a certificate that begins on {begins}; compare the clocks")
    # Only the certificates that OpenSSL reads are kept, not the text around them or other PEM
    # blocks.
    chain_pem = b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
    _check_accepted(chain_pem, keys.to_pem(key), root_pem, folder)
    return AcceptedCertificate(certificate=certificate, chain_pem=chain_pem)


def _check_accepted(chain_pem: bytes, key_pem: bytes, root_pem: bytes, folder: Path | None) -> None:
    """Load certificate and key with OpenSSL, and verify the certificate as the server does.

    Raises:
        PkiError: OpenSSL refuses them, or cannot write the temporary files.
    """
    # The server side uses the agent's certificate too, because the client does not verify it.
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    try:
        with tempfile.TemporaryDirectory(prefix=".check-", dir=folder) as name:
            certificate, key, root = (
                Path(name) / file for file in ("new.crt", "new.key", "ca.crt")
            )
            for path, content in ((certificate, chain_pem), (key, key_pem), (root, root_pem)):
                path.write_bytes(content)  # only the owner can read the folder
            client.load_cert_chain(certificate, key)
            server = tunnel_server(certificate=str(certificate), key=str(key), authority=str(root))
        server.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)  # `check` has checked the dates
        _handshake(client, server)
    except ssl.SSLCertVerificationError as error:
        raise PkiError(
            "the server sent a certificate that is not valid under this agent's ca_cert:"
            f" {error.verify_message}"
        ) from error
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise PkiError(f"the server sent a certificate that OpenSSL refuses: {reason}") from error
    except OSError as error:
        where = folder or "the system's temporary folder"
        raise PkiError(
            f"{where}: cannot write: {error.strerror}; make it writable for the agent's user"
        ) from error


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Do a TLS 1.3 handshake in memory; return when the server has verified the client.

    Raises:
        ssl.SSLError: one end refuses the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialer = client.wrap_bio(to_client, to_server)
    acceptor = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (dialer, acceptor, dialer):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    acceptor.do_handshake()
