"""When a certificate is to be renewed: after about two thirds of its life, each at another moment than the next one."""

import random
from typing import Final

from cryptography import x509

from zerotrust.pki.profile import BACKDATE

EARLIEST: Final = 0.6
LATEST: Final = 0.72


def share(source: random.Random | None = None) -> float:
    """After which part of a life its owner renews."""
    return (source or random.SystemRandom()).uniform(EARLIEST, LATEST)


def renew_at(certificate: x509.Certificate, part: float) -> float:
    """When a `part` of its life will be over, in seconds since the epoch; it began when it was issued."""
    begins = (certificate.not_valid_before_utc + BACKDATE).timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    return begins + max(0.0, ends - begins) * part
