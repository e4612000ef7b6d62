"""Whether a certificate is of our authority, whatever its dates say."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from zerotrust.pki.issuer import Issuer


def is_ours(chain: Sequence[x509.Certificate], issuer: Issuer, root: x509.Certificate) -> bool:
    """The first of the chain is signed by our issuer, by an earlier one of the same root, or by the root itself."""
    above = [issuer.certificate, root, *(one for one in chain[1:] if _signed(one, root))]
    return any(_signed(chain[0], one) for one in above)


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
