"""The directory of a certificate authority.

    ca.crt ca.key           the root; its key can be kept elsewhere until the next `ca rotate`
    issuer.crt issuer.key   the issuing certificate; in older directories the root issues
    NAME.crt NAME.key       each issued certificate with its chain, and its key

Only their owner can read keys; everybody can read certificates. No function overwrites a file
unless the caller asks for it.
"""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from zerotrust.errors import PkiError
from zerotrust.pki import ca, csr, keys, pem_chain, profile
from zerotrust.pki.identity import check_id, common_name, is_authority, serial_of
from zerotrust.pki.issuer import Issuer, ServerNames

AUTHORITY: Final = "ca"
ISSUER: Final = "issuer"
END_DAYS: Final = 365


@dataclass(frozen=True, kw_only=True)
class CaPaths:
    """The paths of a certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class CertificateSummary:
    """A certificate file, summarized for people."""

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
    """Return `name` if it can be the name of a file and of an agent.

    Raises:
        PkiError: it cannot.
    """
    check_id(name)
    if name.lower() in (AUTHORITY, ISSUER):
        raise PkiError(f'"{name}" is the authority\'s own name; choose another')
    return name


def create_authority(
    folder: Path,
    *,
    name: str = "0Trust CA",
    permitted: list[x509.GeneralName] | None = None,
    root_passphrase: bytes | None = None,
    passphrase: bytes | None = None,
) -> tuple[CaPaths, CaPaths]:
    """Create a root and its first issuing certificate in `folder`, and the folder if it is missing.

    Args:
        permitted: the only names that server certificates may have; any if empty.
        passphrase: encrypts the key of the issuing certificate; the root's is encrypted with
            `root_passphrase`.

    Raises:
        PkiError: the folder has an authority already, or cannot be written.
    """
    root, issuing = _files(folder, AUTHORITY), _files(folder, ISSUER)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PkiError(
            f"{folder}: cannot create the folder: {error.strerror}; choose another"
        ) from error
    _refuse_existing(root)
    _refuse_existing(issuing)
    made = ca.create_root(name)
    below = ca.create_issuer(made, permitted=permitted)
    _store(issuing, keys.to_pem(below.key, passphrase), below.certificate_pem, force=False)
    _store(root, keys.to_pem(made.key, root_passphrase), made.certificate_pem, force=False)
    return root, issuing


def rotate_issuer(
    folder: Path,
    *,
    root: Path | None = None,
    permitted: list[x509.GeneralName] | None = None,
    days: int = ca.ISSUER_DAYS,
    root_passphrase: bytes | None = None,
    passphrase: bytes | None = None,
) -> tuple[CaPaths, Path | None]:
    """Replace the issuing certificate in `folder`; certificates issued with the old one stay valid.

    Args:
        root: the folder with ca.crt and ca.key, if it is another one.
        permitted: as for `create_authority`; None keeps those of the old certificate.

    Returns:
        The new files, and the path that the old certificate was moved to (its key is replaced).

    Raises:
        PkiError: the root's key is missing, or the root may have no issuing certificate.
    """
    authority = _load_root(root or folder, root_passphrase)
    files = _files(folder, ISSUER)
    old = load_certificate(files.certificate) if files.certificate.exists() else None
    if old is not None and not is_authority(old):
        raise PkiError(
            f"{files.certificate}: not the certificate of an authority; move it away first"
        )
    if (
        passphrase is None
        and files.key.exists()
        and b"ENCRYPTED" in keys.read(files.key, what="private key")
    ):
        raise PkiError(
            f"{files.key}: is encrypted, and the new key would not be; use --passphrase-file"
        )
    if permitted is None:
        permitted = profile.permitted_names(old) if old is not None else []
    made = ca.create_issuer(authority, days=days, permitted=permitted)
    kept = None
    if old is not None:
        kept = folder / f"{ISSUER}-{old.not_valid_before_utc:%Y%m%dT%H%M%SZ}.crt"
        keys.write(
            kept, old.public_bytes(serialization.Encoding.PEM), mode=keys.PUBLIC, replace=True
        )
    _store(files, keys.to_pem(made.key, passphrase), made.certificate_pem, force=True)
    return files, kept


def load_authority(folder: Path, passphrase_file: Path | None = None) -> Issuer:
    """Return the issuer of `folder`: its issuing certificate, or the root in older folders.

    Raises:
        PkiError: a file is missing or unreadable, or key and certificate do not match.
    """
    files = _files(folder, ISSUER)
    # In an older folder this may be the certificate of an agent named "issuer".
    if not files.certificate.exists() or not is_authority(load_certificate(files.certificate)):
        files = _files(folder, AUTHORITY)
        if not files.certificate.exists() and not files.key.exists():
            raise PkiError(
                f"{folder}: no authority here; create one with: 0trust ca init --dir {folder}"
            )
    return load_issuer(files.certificate, files.key, passphrase_file)


def load_issuer(certificate: Path, key: Path, passphrase_file: Path | None = None) -> Issuer:
    """Load an issuer; the certificate file may also have those between it and the root.

    Raises:
        PkiError: a file is missing or unreadable, or key and certificate do not match.
    """
    own, *above = load_certificates(certificate)
    private = keys.read_key(
        key, None if passphrase_file is None else keys.read_passphrase(passphrase_file)
    )
    _check_pair(own, private, CaPaths(certificate=certificate, key=key))
    return Issuer(
        certificate=own, key=private, above=tuple(c for c in above if c.subject != c.issuer)
    )


def issue_agent(
    folder: Path,
    agent_id: str,
    *,
    days: int = END_DAYS,
    passphrase_file: Path | None = None,
    force: bool = False,
) -> CaPaths:
    """Issue and store an agent's certificate and key.

    Raises:
        PkiError: the name is invalid, files exist and `force` is false, or the authority cannot
            issue.
    """
    files = _files(folder, check_name(agent_id))
    if not force:
        _refuse_existing(files)
    issuer, made = load_authority(folder, passphrase_file), csr.create()
    issued = issuer.issue_agent(agent_id, made.pem, profile.days(days), _now())
    _store(files, keys.to_pem(made.key), issued.chain_pem, force=force)
    return files


def issue_server(
    folder: Path,
    name: str,
    names: ServerNames,
    *,
    days: int = END_DAYS,
    passphrase_file: Path | None = None,
    force: bool = False,
) -> CaPaths:
    """Issue and store a server's certificate and key; `name` is one of its addresses, too.

    Raises:
        PkiError: as for `issue_agent`, or an address is invalid.
    """
    files = _files(folder, check_name(name))
    if not force:
        _refuse_existing(files)
    try:
        names = ServerNames(dns=names.dns, ip=[str(ipaddress.ip_address(name)), *names.ip])
    except ValueError:
        names = ServerNames(dns=[name, *names.dns], ip=names.ip)
    issuer, made = load_authority(folder, passphrase_file), csr.create()
    issued = issuer.issue_server(made.pem, names, profile.days(days), _now())
    _store(files, keys.to_pem(made.key), issued.chain_pem, force=force)
    return files


def load_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate in a PEM file.

    Raises:
        PkiError: the file is missing, unreadable or has no certificate.
    """
    return load_certificates(path)[0]


def load_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates in a PEM file, at least one.

    Raises:
        PkiError: the file is missing, unreadable or has no certificate.
    """
    data = keys.read(path, what="certificate")
    try:
        return pem_chain.parse(data)
    except PkiError as error:
        raise PkiError(
            f"{path}: not a certificate in PEM form; restore it or issue it again"
        ) from error


def describe(folder: Path) -> list[CertificateSummary]:
    """Summarize all certificates of a folder, the authority first.

    Raises:
        PkiError: the folder does not exist, or one of its certificates cannot be read.
    """
    if not folder.is_dir():
        raise PkiError(
            f"{folder}: no such folder; create an authority with: 0trust ca init --dir {folder}"
        )
    paths = sorted(
        folder.glob("*.crt"),
        key=lambda path: (path.stem != AUTHORITY, path.stem != ISSUER, path.name),
    )
    return [describe_file(path) for path in paths]


def describe_file(path: Path) -> CertificateSummary:
    """Summarize one certificate file.

    Raises:
        PkiError: the file cannot be read.
    """
    certificate = load_certificate(path)
    return CertificateSummary(
        path=path,
        name=common_name(certificate),
        role=_role(certificate),
        names=_alternative_names(certificate),
        serial=serial_of(certificate),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        has_key=path.with_suffix(".key").exists(),
    )


def _role(certificate: x509.Certificate) -> str:
    if is_authority(certificate):
        return "authority" if certificate.subject == certificate.issuer else "issuer"
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "other"
    if ExtendedKeyUsageOID.CLIENT_AUTH in uses:
        return "agent"
    return "server" if ExtendedKeyUsageOID.SERVER_AUTH in uses else "other"


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _files(folder: Path, name: str) -> CaPaths:
    return CaPaths(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")


def _refuse_existing(files: CaPaths) -> None:
    """Raise if a file of the pair exists: checked before a key is made, so that no half pair is
    left."""
    for path in (files.key, files.certificate):
        if path.exists():
            own = path.stem in (AUTHORITY, ISSUER)
            fix = "move it away first" if own else "choose another name, or use --force"
            raise PkiError(f"{path}: exists already and is not overwritten; {fix}")


def _load_root(folder: Path, passphrase: bytes | None) -> ca.CertifiedKey:
    files = _files(folder, AUTHORITY)
    certificate = load_certificate(files.certificate)
    if not files.key.exists():
        raise PkiError(
            f"{files.key}: the root's key is not here; name the folder that has it with --root, "
            "or rotate where it is kept and bring issuer.crt and issuer.key"
        )
    key = keys.read_key(files.key, passphrase)
    _check_pair(certificate, key, files)
    return ca.CertifiedKey(certificate=certificate, key=key)


def _check_pair(certificate: x509.Certificate, key: keys.Key, files: CaPaths) -> None:
    if certificate.public_key() != key.public_key():
        raise PkiError(
            f"{files.key}: does not belong to {files.certificate}; restore the pair from one backup"
        )
    if not is_authority(certificate):
        raise PkiError(
            f"{files.certificate}: not the certificate of an authority; create one with 0trust ca"
            " init"
        )


def _store(files: CaPaths, key_pem: bytes, certificate_pem: bytes, *, force: bool) -> None:
    keys.write(files.key, key_pem, mode=keys.PRIVATE, replace=force)
    keys.write(files.certificate, certificate_pem, mode=keys.PUBLIC, replace=force)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
