"""Checks of a certificate that a server has sent to this agent.

Whoever has the server's key can answer with any certificate. One that a true server refuses would lock the agent out
for good. So the agent plays both parts of a TLS handshake in memory, with the settings of a true server: only a
certificate with which that succeeds replaces the one that works.
"""

import ssl
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from zerotrust.agent.asking import is_about_time
from zerotrust.errors import PkiError
from zerotrust.net.tls import tunnel_client, tunnel_server
from zerotrust.pki import chain, keys
from zerotrust.pki.identity import agent_id_of

MAX_CERTIFICATES: Final = 4
"""In a chain. A server takes no longer one from an agent whose certificate has expired, so the agent could not return.
Ours have two."""


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate that a true server accepts.

    Attributes:
        chain_pem: the certificate and those between it and the root, and nothing else that was sent.
    """

    certificate: x509.Certificate
    chain_pem: bytes


def check(pem: bytes, key: keys.Key, *, agent_id: str, root_pem: bytes, folder: Path | None = None) -> Issued:
    """Return the certificate that a server has sent for this key.

    Args:
        root_pem: the authority by which the agent verifies servers, and they verify it.
        folder: takes files for the time of the check, as OpenSSL reads keys from files only; by default the system's.

    Raises:
        PkiError: it can't be read, is for another agent or key, or a true server would refuse it.
    """
    try:
        certificates = chain.parse(pem)
    except PkiError as error:
        raise PkiError("what the server sent is not a certificate") from error
    if len(certificates) > MAX_CERTIFICATES:
        raise PkiError(f"the server sent {len(certificates)} certificates; a chain has at most {MAX_CERTIFICATES}")
    certificate = certificates[0]
    if certificate.public_key() != key.public_key() or agent_id_of(certificate) != agent_id:
        raise PkiError("the server sent a certificate that is not for this agent and its new key")
    # What OpenSSL reads is what is kept: not text around it, nor another block.
    chain_pem = b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
    _check_accepted(chain_pem, keys.to_pem(key), root_pem, folder)
    return Issued(certificate=certificate, chain_pem=chain_pem)


def _check_accepted(chain_pem: bytes, key_pem: bytes, root_pem: bytes, folder: Path | None) -> None:
    """Have OpenSSL load the pair, and verify it as the server does."""
    try:
        with tempfile.TemporaryDirectory(prefix=".check-", dir=folder) as name:
            paths = [Path(name) / file for file in ("new.crt", "new.key", "ca.crt")]
            for path, content in zip(paths, (chain_pem, key_pem, root_pem), strict=True):
                path.write_bytes(content)  # the folder is its owner's alone
            certificate, key, root = map(str, paths)
            client = tunnel_client(certificate=certificate, key=key, authority=root)
            server = tunnel_server(certificate=certificate, key=key, authority=root)
    except OSError as error:
        where = folder or "the system's folder for temporary files"
        raise PkiError(f"{where}: cannot write: {error.strerror}; let the program write there") from error
    # The agent's own certificate stands for the server's, which is not the question here.
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    try:
        _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        clocks = "; compare the clocks" if is_about_time(error) else ""
        raise PkiError(
            "the server sent a certificate that is not valid under this agent's ca_cert: "
            f"{error.verify_message}{clocks}"
        ) from error
    except ssl.SSLError as error:
        raise PkiError(f"the server sent a certificate that cannot be used: {error.reason or error}") from error


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Do a TLS 1.3 handshake in memory; it ends when the server has verified the client.

    Raises:
        ssl.SSLError: an end refuses the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialer = client.wrap_bio(to_client, to_server)
    acceptor = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (dialer, acceptor, dialer):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    acceptor.do_handshake()
