"""Check of certificate files: dates, names, authority, and the mode of keys."""

import datetime
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from zerotrust.doctor.clock_offset import zone_mistake
from zerotrust.errors import PkiError
from zerotrust.model.base import is_address
from zerotrust.model.doctor import Finding
from zerotrust.net.channel import describe
from zerotrust.net.timed_request import cut
from zerotrust.pki.ca_directory import load_certificates
from zerotrust.pki.chain_verification import anchor
from zerotrust.pki.identity import common_name

SOON: Final = datetime.timedelta(days=3)
"""A certificate that nothing renews should be replaced this long before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFile:
    """A certificate in a file, with what it is needed for.

    Attributes:
        key: configuration key that names the file.
        roots: the file with the root certificates; empty for a certificate of the public.
        names: host names that the certificate must be for.
        renewed: the program renews it by itself.
        issue: the command that makes it anew.
    """

    key: str
    path: str
    private_key: str = ""
    roots: str = ""
    names: tuple[str, ...] = ()
    renewed: bool = False
    issue: str = ""


def examine_file(file: CertificateFile, now: datetime.datetime) -> Iterator[Finding]:
    """Yield what is wrong with a certificate and its key."""
    try:
        chain = load_certificates(Path(file.path))
        roots = load_certificates(Path(file.roots)) if file.roots else []
    except PkiError as error:
        yield Finding(
            check="tls.unreadable",
            level="broken",
            subject=file.path,
            what=f"{file.key} cannot be used",
            seen=str(error),
            fix=f"correct the path, or make the file: {file.issue}",
        )
        return
    yield from judge_dates(file, chain[0], now)
    yield from _judge_names(file, chain[0])
    if roots and anchor(chain, roots) is None:
        yield Finding(
            check="tls.authority",
            level="broken",
            subject=file.path,
            what=f"{file.path} is not signed by the authority in {file.roots}",
            seen=f"its issuer is {_issuer(chain[-1])}, the authority is {_names_of(roots)}",
            fix=f"use the files of one authority, or issue it again: {file.issue}",
        )
    if file.private_key:
        yield from _judge_key(file, chain[0])


def judge_dates(
    file: CertificateFile, certificate: x509.Certificate, now: datetime.datetime
) -> Iterator[Finding]:
    """Yield a finding if a certificate is not valid yet, has expired or ends soon."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begins > now:
        zone = zone_mistake((begins - now).total_seconds())
        yield Finding(
            check="tls.not_yet_valid",
            level="broken",
            subject=file.path,
            what=f"{file.path} is not valid yet",
            seen=f"it begins at {begins:%Y-%m-%d %H:%M} UTC, now it is {now:%Y-%m-%d %H:%M} UTC"
            + (f": {zone} apart, like a time zone" if zone else ""),
            fix="set the clock to UTC and the time zone separately: timedatectl set-ntp true",
        )
    elif ends <= now:
        yield Finding(
            check="tls.expired",
            level="broken",
            subject=file.path,
            what=f"{file.path} has expired",
            seen=f"it ended at {ends:%Y-%m-%d %H:%M} UTC, now it is {now:%Y-%m-%d %H:%M} UTC",
            fix=f"issue it again: {file.issue}",
        )
    elif ends - now < SOON and not file.renewed:
        yield Finding(
            check="tls.ends_soon",
            level="warning",
            subject=file.path,
            what=f"{file.path} ends soon",
            seen=f"at {ends:%Y-%m-%d %H:%M} UTC",
            fix=f"issue it again: {file.issue}",
        )


def names_in(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses in a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def root_digests(path: str) -> list[bytes]:
    """Return the SHA-256 of each certificate in a file; none if it cannot be read."""
    try:
        return [one.fingerprint(hashes.SHA256()) for one in load_certificates(Path(path))]
    except PkiError:
        return []


def owner(der: bytes) -> str:
    """Return for whom and by whom a certificate was issued, for people."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        return "a certificate that cannot be read"
    names = names_in(certificate)[:3] or [common_name(certificate)[:60] or "no name"]
    return cut(f"a certificate for {', '.join(names)} by {_issuer(certificate)}")


def _judge_names(file: CertificateFile, certificate: x509.Certificate) -> Iterator[Finding]:
    known = names_in(certificate)
    for name in file.names:
        wildcard = f"*.{name.partition('.')[2]}"
        if name not in known and (is_address(name) or wildcard not in known):
            yield Finding(
                check="tls.name",
                level="broken",
                subject=file.path,
                what=f"{file.path} is not for {name}",
                seen=f"it is for {', '.join(known) or 'no name'}",
                fix=f"issue it again: {file.issue}",
            )


def _judge_key(file: CertificateFile, certificate: x509.Certificate) -> Iterator[Finding]:
    path = Path(file.private_key)
    try:
        mode = path.stat().st_mode
        key_pem = path.read_bytes()
    except OSError as error:
        yield Finding(
            check="tls.key_unreadable",
            level="broken",
            subject=str(path),
            what=f"the private key {path} cannot be read",
            seen=describe(error),
            fix="correct the path, or run as the user that owns it",
        )
        return
    if mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        yield Finding(
            check="tls.key_mode",
            level="warning",
            subject=str(path),
            what=f"other users can read the private key {path}",
            seen=f"mode {stat.S_IMODE(mode):04o}",
            fix=f"run chmod 600 {path}",
        )
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError):
        return  # it has a passphrase, or the program has said what is wrong
    shape = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*shape) != certificate.public_key().public_bytes(*shape):
        yield Finding(
            check="tls.key_pair",
            level="broken",
            subject=file.path,
            what=f"{path} is not the key of {file.path}",
            fix=f"name two files that belong together, or issue them again: {file.issue}",
        )


def _issuer(certificate: x509.Certificate) -> str:
    found = certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value)[:60] if found else "an issuer without a name"


def _names_of(certificates: Sequence[x509.Certificate]) -> str:
    return ", ".join(common_name(one) or "without a name" for one in certificates)
