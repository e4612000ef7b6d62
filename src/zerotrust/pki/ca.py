"""The root: whom agents and servers believe. It certifies those who issue, and nobody else.

Its key is needed to make an issuing certificate, so once in years: it can be kept offline.
"""

import datetime
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from zerotrust.errors import PkiError
from zerotrust.pki import keys, profile
from zerotrust.pki.identity import common_name

ROOT_DAYS: Final = 7300
ISSUER_DAYS: Final = 1825
"""A new issuing certificate is made in time by hand (`0trust ca rotate`)."""


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: keys.Key

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as it is written to a file."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def create_root(name: str, *, days: int = ROOT_DAYS, now: datetime.datetime | None = None) -> Credential:
    """A new root.

    Raises:
        PkiError: the name or the life does not do.
    """
    key = keys.generate()
    builder = profile.root(name, key.public_key(), profile.life(_moment(now), profile.days(days)))
    return Credential(certificate=builder.sign(key, keys.signing_hash(key)), key=key)


def create_issuer(
    root: Credential,
    *,
    days: int = ISSUER_DAYS,
    permitted: list[x509.GeneralName] | None = None,
    now: datetime.datetime | None = None,
) -> Credential:
    """A new issuing certificate below `root`.

    Args:
        permitted: servers get certificates for these names only, and for what is below them; for all if empty.

    Raises:
        PkiError: the root can have no authority below it, its life is over, or `days` does not do.
    """
    _may_have_issuers(root.certificate)
    key = keys.generate()
    start = _moment(now)
    # Of at most 64 bytes, as X.520 has it; with the time, so that people can tell issuers apart.
    short = common_name(root.certificate).encode()[:36].decode(errors="ignore")
    builder = profile.issuing(
        f"{short} issuing {start:%Y-%m-%d %H%M%S}",
        key.public_key(),
        profile.life(start, profile.days(days), within=root.certificate),
        parent=root.certificate,
        permitted=permitted or [],
    )
    return Credential(certificate=builder.sign(root.key, keys.signing_hash(root.key)), key=key)


def _may_have_issuers(root: x509.Certificate) -> None:
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.path_length == 0:
        raise PkiError(
            "this authority issues its certificates itself and can have no issuing certificate below it; "
            "it goes on working, but for rotation make a new one in another folder: 0trust ca init"
        )


def _moment(now: datetime.datetime | None) -> datetime.datetime:
    return now or datetime.datetime.now(datetime.UTC)
