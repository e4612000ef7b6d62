"""Certificate signing requests (RFC 2986): an agent makes them, the issuer checks them.

A request proves that its sender has the private key. The issuer takes nothing but the public key
from it, and decides on names, uses and extensions itself.
"""

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from zerotrust.errors import CsrRefused
from zerotrust.pki import keys

MAX_BYTES: Final = 8192
"""A request with an RSA key of 8192 bits has about 3000 bytes."""
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, kw_only=True)
class CertificateRequest:
    """A new private key, and the request for its certificate."""

    key: keys.Key
    pem: bytes


def create() -> CertificateRequest:
    """Create a key and a request for it, with an empty subject: the issuer knows who asks."""
    key = keys.generate()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    return CertificateRequest(key=key, pem=request.public_bytes(serialization.Encoding.PEM))


def public_key(pem: bytes) -> keys.PublicKey:
    """Return the public key of a request after checking that its sender has the private key.

    Raises:
        CsrRefused: the text is too long or no request, or the key, the signature or its hash is
            weak.
    """
    if len(pem) > MAX_BYTES:
        raise CsrRefused(f"the certificate signing request is longer than {MAX_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(pem)
        # Before the signature is checked: the cost of that grows with the size of the key.
        key = keys.strong(request.public_key())
        proven = key is not None and _hash_is_good(request) and request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CsrRefused(
            "not a certificate signing request in PEM form, or of an unknown kind"
        ) from error
    if key is None:
        raise CsrRefused(
            f"the key of the certificate signing request is not accepted; use {keys.STRONG}"
        )
    if not proven:
        raise CsrRefused(
            "the certificate signing request is not signed by its own key, or with a weak hash"
        )
    return key


def _hash_is_good(request: x509.CertificateSigningRequest) -> bool:
    algorithm = request.signature_hash_algorithm
    return algorithm is None or isinstance(algorithm, _HASHES)
