"""The folder of an authority: ca.crt, ca.key, and NAME.crt with NAME.key for each certificate issued.

Keys are readable by their owner alone, certificates by all. Nothing that exists is overwritten unless asked.
"""

import datetime
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from zerotrust.errors import PkiError
from zerotrust.pki import ca, keys

AUTHORITY: Final = "ca"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where a certificate and its key are."""

    certificate: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a certificate file says, for people."""

    path: Path
    name: str
    role: str
    names: tuple[str, ...]
    serial: str
    fingerprint: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    has_key: bool


def check_name(name: str) -> str:
    """`name`, fit to be the name of a file and of an agent.

    Raises:
        PkiError: it is not.
    """
    if not _NAME.match(name):
        raise PkiError(
            f'"{name}" cannot be used as a name; use 1 to 64 letters, digits, ".", "_" and "-", '
            "and begin with a letter or a digit"
        )
    if name.lower() == AUTHORITY:
        raise PkiError(f'"{name}" is the authority\'s own name; choose another')
    return name


def create_authority(folder: Path, *, name: str = "0Trust CA") -> Files:
    """A new authority in `folder`, which is created if need be.

    Raises:
        PkiError: there is one already, or the folder cannot be written.
    """
    files = _files(folder, AUTHORITY)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PkiError(f"{folder}: cannot create the folder: {error.strerror}; choose another") from error
    _refuse_existing(files)
    _store(files, ca.create_authority(name), force=False)
    return files


def load_authority(folder: Path) -> ca.Authority:
    """The authority in `folder`.

    Raises:
        PkiError: missing, unreadable, or key and certificate do not fit.
    """
    files = _files(folder, AUTHORITY)
    if not files.certificate.exists() and not files.key.exists():
        raise PkiError(f"{folder}: no authority here; create one with: 0trust ca init --dir {folder}")
    certificate = load_certificate(files.certificate)
    key = keys.read_key(files.key)
    if certificate.public_key() != key.public_key():
        raise PkiError(f"{files.key}: does not belong to {files.certificate}; restore the pair from one backup")
    if not _is_authority(certificate):
        raise PkiError(f"{files.certificate}: not the certificate of an authority; create one with 0trust ca init")
    return ca.Authority(certificate=certificate, key=key)


def issue_agent(folder: Path, agent_id: str, *, days: int = ca.END_DAYS, force: bool = False) -> Files:
    """Issue and store an agent's certificate and key.

    Raises:
        PkiError: the name does not do, files exist and `force` is false, or there is no usable authority.
    """
    files = _files(folder, check_name(agent_id))
    if not force:
        _refuse_existing(files)
    _store(files, load_authority(folder).issue_agent(agent_id, days=days), force=force)
    return files


def issue_server(
    folder: Path,
    name: str,
    *,
    dns: list[str],
    ip: list[str],
    days: int = ca.END_DAYS,
    force: bool = False,
) -> Files:
    """Issue and store a server's certificate and key; `name` itself is one of its addresses.

    Raises:
        PkiError: as for `issue_agent`, or an address that is none.
    """
    files = _files(folder, check_name(name))
    if not force:
        _refuse_existing(files)
    try:
        ip = [str(ipaddress.ip_address(name)), *ip]
    except ValueError:
        dns = [name, *dns]
    _store(files, load_authority(folder).issue_server(name, dns=dns, ip=ip, days=days), force=force)
    return files


def load_certificate(path: Path) -> x509.Certificate:
    """The (first) certificate in a PEM file.

    Raises:
        PkiError: missing, unreadable or no certificate.
    """
    data = keys.read(path, what="certificate")
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise PkiError(f"{path}: not a certificate in PEM form; restore it or issue it again") from error


def describe(folder: Path) -> list[Description]:
    """All certificates of a folder, the authority first.

    Raises:
        PkiError: there is no such folder, or one of its certificates cannot be read.
    """
    if not folder.is_dir():
        raise PkiError(f"{folder}: no such folder; create an authority with: 0trust ca init --dir {folder}")
    paths = sorted(folder.glob("*.crt"), key=lambda path: (path.stem != AUTHORITY, path.name))
    return [describe_file(path) for path in paths]


def describe_file(path: Path) -> Description:
    """What one certificate file says.

    Raises:
        PkiError: it cannot be read.
    """
    certificate = load_certificate(path)
    return Description(
        path=path,
        name=common_name(certificate),
        role=_role(certificate),
        names=_alternative_names(certificate),
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        has_key=path.with_suffix(".key").exists(),
    )


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, or nothing."""
    found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _role(certificate: x509.Certificate) -> str:
    if _is_authority(certificate):
        return "authority"
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "other"
    if ExtendedKeyUsageOID.CLIENT_AUTH in uses:
        return "agent"
    return "server" if ExtendedKeyUsageOID.SERVER_AUTH in uses else "other"


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _files(folder: Path, name: str) -> Files:
    return Files(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")


def _refuse_existing(files: Files) -> None:
    """Before any key is made: the pair is written in two steps, and half a pair helps nobody."""
    for path in (files.key, files.certificate):
        if path.exists():
            fix = "move it away first" if path.stem == AUTHORITY else "choose another name, or use --force"
            raise PkiError(f"{path}: exists already and is not overwritten; {fix}")


def _store(files: Files, credential: ca.Credential, *, force: bool) -> None:
    keys.write(files.key, keys.to_pem(credential.key), mode=keys.PRIVATE, replace=force)
    keys.write(files.certificate, credential.certificate_pem, mode=keys.PUBLIC, replace=force)
