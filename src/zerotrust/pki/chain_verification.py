"""Verification of a certificate's chain without regard to dates."""

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from zerotrust.pki.identity import is_authority
from zerotrust.pki.issuer import Issuer


def is_ours(chain: Sequence[x509.Certificate], issuer: Issuer, root: x509.Certificate) -> bool:
    """Return True if our issuer, an earlier issuer of the same root, or the root has signed
    chain[0]."""
    # A root may have signed an agent's certificate too, which may not sign others.
    above = [
        issuer.certificate,
        root,
        *(one for one in chain[1:] if _signed(one, root) and is_authority(one)),
    ]
    return any(_signed(chain[0], one) for one in above)


def anchor(
    chain: Sequence[x509.Certificate], roots: Iterable[x509.Certificate]
) -> x509.Certificate | None:
    """Return the first root that is in the chain or has signed one of its certificates."""
    return next(
        (root for root in roots if any(one == root or _signed(one, root) for one in chain)), None
    )


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
