"""Certificate profiles: the contents of the certificates of our authority.

The profiles pass OpenSSL's strict checks of RFC 5280 (X509_V_FLAG_X509_STRICT). A leaf certificate
is valid for one side only, an agent's for TLS clients and a server's for TLS servers: so a stolen
agent key cannot pose as the server.

Every certificate starts five minutes in the past: clocks differ.
"""

import datetime
import ipaddress
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from zerotrust.errors import PkiError
from zerotrust.model.base import normalise_host
from zerotrust.pki.keys import PublicKey

BACKDATE: Final = datetime.timedelta(minutes=5)
CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
_LONGEST: Final = datetime.timedelta(days=36500)
_SHORTEST: Final = datetime.timedelta(seconds=1)
_NO_USE: Final = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


@dataclass(frozen=True, kw_only=True)
class Validity:
    """Validity period of a certificate, in whole seconds, UTC."""

    start: datetime.datetime
    end: datetime.datetime


def days(count: int) -> datetime.timedelta:
    """Return a validity in days.

    Raises:
        PkiError: less than a day, or more than a hundred years.
    """
    if not 1 <= count <= _LONGEST.days:
        raise PkiError(f"invalid validity: {count} days; choose 1 to {_LONGEST.days}")
    return datetime.timedelta(days=count)


def validity(
    now: datetime.datetime, length: datetime.timedelta, *, within: x509.Certificate | None = None
) -> Validity:
    """Return a validity period that begins now and ends no later than its issuer's.

    Raises:
        PkiError: `length` is not between a second and a hundred years, or the issuer is not valid
            now.
    """
    if not _SHORTEST <= length <= _LONGEST:
        raise PkiError(f"invalid validity: {length}; choose 1 second to {_LONGEST.days} days")
    start = now.astimezone(datetime.UTC).replace(microsecond=0)
    end = start + length
    if within is not None:
        begun, ended = within.not_valid_before_utc, within.not_valid_after_utc
        if ended <= start:
            raise PkiError(
                f"the issuing certificate expired on {ended:%Y-%m-%d}; make a new one with 0trust"
                " ca rotate, or a new authority if it is the root"
            )
        if begun > start:
            raise PkiError(
                f"the issuing certificate is valid from {begun:%Y-%m-%d %H:%M} UTC; set this"
                " machine's clock"
            )
        end = min(end, ended)
    return Validity(start=start, end=end)


def root(name: str, key: PublicKey, validity: Validity) -> x509.CertificateBuilder:
    """Return the builder of a root, which signs issuing certificates only."""
    return (
        _builder(name, None, key, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(
            x509.KeyUsage(**{**_NO_USE, "key_cert_sign": True, "crl_sign": True}), critical=True
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key), critical=False)
    )


def issuing(
    name: str,
    key: PublicKey,
    validity: Validity,
    *,
    parent: x509.Certificate,
    permitted: list[x509.GeneralName],
) -> x509.CertificateBuilder:
    """Return the builder of an issuing certificate, limited to servers of the `permitted` names
    if any."""
    builder = (
        _builder(name, parent, key, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(**{**_NO_USE, "key_cert_sign": True, "crl_sign": True}), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([CLIENT, SERVER]), critical=False)
        .add_extension(_identifier_of(parent), critical=False)
    )
    if permitted:
        builder = builder.add_extension(_constraints(permitted), critical=True)
    return builder


def leaf(
    name: str,
    key: PublicKey,
    validity: Validity,
    *,
    parent: x509.Certificate,
    usage: ObjectIdentifier,
    names: list[x509.GeneralName],
) -> x509.CertificateBuilder:
    """Return the builder of a certificate for an agent or server."""
    return (
        _builder(name, parent, key, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**_NO_USE, "digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(_identifier_of(parent), critical=False)
    )


def alternative_names(*, dns: list[str], ip: list[str]) -> list[x509.GeneralName]:
    """Return subject alternative names, each once.

    Raises:
        PkiError: an entry is no DNS name, or no IP address.
    """
    names: list[x509.GeneralName] = [x509.DNSName(_dns_name(host)) for host in dns]
    for address in ip:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError as error:
            raise PkiError(
                f'"{address}" is not an IP address; write it as 192.0.2.7 or 2001:db8::7'
            ) from error
    return list(dict.fromkeys(names))


def permitted_names(issuer: x509.Certificate) -> list[x509.GeneralName]:
    """Return the server names that an issuing certificate is limited to; empty if it is not."""
    try:
        trees = issuer.extensions.get_extension_for_class(
            x509.NameConstraints
        ).value.permitted_subtrees
    except x509.ExtensionNotFound:
        return []
    return list(trees or [])


def _constraints(permitted: list[x509.GeneralName]) -> x509.NameConstraints:
    """Permit only these names; exclude every name type that is not listed (RFC 5280 s4.2.1.10)."""
    trees = [_tree(name) for name in permitted]
    everything: list[x509.GeneralName] = []
    if not any(isinstance(name, x509.DNSName) for name in permitted):
        everything.append(x509.DNSName(""))
    if not any(isinstance(name, x509.IPAddress) for name in permitted):
        networks = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
        everything += [x509.IPAddress(network) for network in networks]
    return x509.NameConstraints(permitted_subtrees=trees, excluded_subtrees=everything or None)


def _tree(name: x509.GeneralName) -> x509.GeneralName:
    return (
        x509.IPAddress(ipaddress.ip_network(str(name.value)))
        if isinstance(name, x509.IPAddress)
        else name
    )


def _dns_name(host: str) -> str:
    wildcard = "*." if host.startswith("*.") else ""
    try:
        name = normalise_host(host.removeprefix(wildcard))
    except ValueError as error:
        raise PkiError(f"{error}; write a DNS name such as tunnel.example.com") from error
    if ":" in host:
        raise PkiError(
            f'"{host}" is not a DNS name; write it without a port, an IP address with --ip'
        )
    return wildcard + name


def _builder(
    name: str, parent: x509.Certificate | None, key: PublicKey, validity: Validity
) -> x509.CertificateBuilder:
    try:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError as error:
        raise PkiError(f'invalid common name "{name}": must have 1 to 64 characters') from error
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if parent is None else parent.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.start - BACKDATE)
        .not_valid_after(validity.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _identifier_of(parent: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the issuer's own key identifier, which may be another hash than ours."""
    try:
        own = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound as error:
        raise PkiError(
            "the authority's certificate has no subject key identifier; create a new one"
        ) from error
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
