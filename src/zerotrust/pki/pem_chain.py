"""Certificates in PEM form, as files have them and as other machines send them."""

import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from zerotrust.errors import PkiError


def parse(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM text, at least one.

    Raises:
        PkiError: there is none, one can't be parsed, or has a version or a kind of key that is not known here.
    """
    try:
        with warnings.catch_warnings():
            # Roots that people make have the serial number 0, which RFC 5280 s4.1.2.2 forbids and TLS takes.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificates = x509.load_pem_x509_certificates(pem)
        for certificate in certificates:
            # Parsed only when asked for. The caller compares keys, and an unknown kind must fail here.
            certificate.public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise PkiError("not a certificate in PEM form") from error
    return certificates
