"""The root of trust of agents and servers. It certifies issuing certificates only.

Its key is needed to make an issuing certificate, once in years: it can be kept offline.
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
"""An administrator replaces the issuing certificate in time: `0trust ca rotate`."""


@dataclass(frozen=True, kw_only=True)
class CertifiedKey:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: keys.Key

    @property
    def certificate_pem(self) -> bytes:
        """The certificate in PEM form."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def create_root(
    name: str, *, days: int = ROOT_DAYS, now: datetime.datetime | None = None
) -> CertifiedKey:
    """Create a root.

    Raises:
        PkiError: invalid name or validity.
    """
    key = keys.generate()
    builder = profile.root(
        name, key.public_key(), profile.validity(_moment(now), profile.days(days))
    )
    return CertifiedKey(certificate=builder.sign(key, keys.signing_hash(key)), key=key)


def create_issuer(
    root: CertifiedKey,
    *,
    days: int = ISSUER_DAYS,
    permitted: list[x509.GeneralName] | None = None,
    now: datetime.datetime | None = None,
) -> CertifiedKey:
    """Create an issuing certificate signed by `root`.

    Args:
        permitted: the only names, with their subdomains, that server certificates may have; any if
            empty.

    Raises:
        PkiError: the root may sign no authority or has expired, or `days` is invalid.
    """
    _may_have_issuers(root.certificate)
    key = keys.generate()
    start = _moment(now)
    # At most 64 bytes (X.520), with the time, so that people can tell issuers apart.
    short = common_name(root.certificate).encode()[:36].decode(errors="ignore")
    builder = profile.issuing(
        f"{short} issuing {start:%Y-%m-%d %H%M%S}",
        key.public_key(),
        profile.validity(start, profile.days(days), within=root.certificate),
        parent=root.certificate,
        permitted=permitted or [],
    )
    return CertifiedKey(certificate=builder.sign(root.key, keys.signing_hash(root.key)), key=key)


def _may_have_issuers(root: x509.Certificate) -> None:
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.path_length == 0:
        raise PkiError(
            "this authority issues its certificates itself and can have no issuing certificate"
            " below it; it keeps working, but cannot rotate; create a new one in another folder:"
            " 0trust ca init"
        )


def _moment(now: datetime.datetime | None) -> datetime.datetime:
    return now or datetime.datetime.now(datetime.UTC)
