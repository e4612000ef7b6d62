"""Certificates in PEM form, from files and from peers."""

import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from zerotrust.errors import PkiError


def parse(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM text, at least one.

    Raises:
        PkiError: the text has no certificate, or one of an unknown version or kind of key.
    """
    try:
        with warnings.catch_warnings():
            # Home-made roots often have the serial number 0, which RFC 5280 s4.1.2.2 forbids and
            # TLS accepts.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificates = x509.load_pem_x509_certificates(pem)
        for certificate in certificates:
            # The library parses the key on access. The caller compares keys, so an unknown kind
            # must fail here.
            certificate.public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise PkiError("not a certificate in PEM form") from error
    return certificates
