"""Renewal time of certificates: after about two thirds of the validity, at random."""

import random
from typing import Final

from cryptography import x509

from zerotrust.pki.profile import BACKDATE

EARLIEST: Final = 0.6
LATEST: Final = 0.72


def share(source: random.Random | None = None) -> float:
    """Return the part of the validity after which to renew."""
    return (source or random.SystemRandom()).uniform(EARLIEST, LATEST)


def renew_at(certificate: x509.Certificate, part: float) -> float:
    """Return the time at which `part` of the validity is over, in seconds since the epoch."""
    begins = (certificate.not_valid_before_utc + BACKDATE).timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    return begins + max(0.0, ends - begins) * part
