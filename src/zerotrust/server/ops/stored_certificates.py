"""Certificates in the storage of Caddy."""

from pathlib import Path
from typing import Final

from zerotrust.errors import PkiError
from zerotrust.pki.ca_directory import load_certificates

RENEWED: Final = 0.4
"""Part of a certificate's lifetime that is left when Caddy may renew it. It does so when a third is
left, or a little earlier where the authority proposes that (RFC 9773)."""


def certificate_files(storage: Path | None, host: str) -> list[Path]:
    """Return the certificates of a host name, one for each authority that has issued some."""
    if storage is None:
        return []
    try:
        return list(storage.glob(f"certificates/*/{host}/{host}.crt"))
    except OSError:  # for example a name too long for a file
        return []


def is_fresh(file: Path, unix_time: float) -> bool:
    """Return True for a certificate that Caddy does not renew yet."""
    try:
        certificate = load_certificates(file)[0]
    except PkiError:  # Caddy is about to write it, or has removed it
        return False
    begins = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    return unix_time < ends - (ends - begins) * RENEWED
