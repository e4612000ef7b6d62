"""The authority: whom the two ends of a tunnel believe, and the certificates that it issues.

Its own certificate may sign certificates of ends and no further authorities (path length 0). A certificate is good for
one side only: an agent's for TLS clients, a server's for TLS servers, so that a stolen agent key cannot pose as the
server. Profiles follow RFC 5280 closely enough for OpenSSL's strict checks (X509_V_FLAG_X509_STRICT).

Every certificate starts five minutes in the past: clocks differ.
"""

import datetime
import ipaddress
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from zerotrust.errors import PkiError
from zerotrust.model.base import normalise_host
from zerotrust.pki import keys

AUTHORITY_DAYS: Final = 3650
END_DAYS: Final = 365
AGENT_URN: Final = "urn:0trust:agent:"
_BACKDATE: Final = datetime.timedelta(minutes=5)
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
class Credential:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: keys.Key

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as it is written to a file."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, kw_only=True)
class Authority(Credential):
    """Issues certificates. Whoever holds its key can admit agents: keep it off the server where that is possible."""

    def issue_agent(self, agent_id: str, *, days: int = END_DAYS, now: datetime.datetime | None = None) -> Credential:
        """A certificate that names an agent, for TLS clients."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(AGENT_URN + agent_id)]
        return self._issue(agent_id, names, ExtendedKeyUsageOID.CLIENT_AUTH, days, now)

    def issue_server(
        self,
        name: str,
        *,
        dns: list[str],
        ip: list[str],
        days: int = END_DAYS,
        now: datetime.datetime | None = None,
    ) -> Credential:
        """A certificate for the addresses at which agents reach the server, for TLS servers.

        Raises:
            PkiError: an entry of `dns` or `ip` is neither.
        """
        names = alternative_names(dns=dns, ip=ip)
        return self._issue(name, names, ExtendedKeyUsageOID.SERVER_AUTH, days, now)

    def _issue(
        self,
        name: str,
        alternatives: list[x509.GeneralName],
        usage: ObjectIdentifier,
        days: int,
        now: datetime.datetime | None,
    ) -> Credential:
        start = _moment(now)
        ends_with_us = self.certificate.not_valid_after_utc
        if ends_with_us <= start:
            raise PkiError(f"the authority's certificate ended on {ends_with_us:%Y-%m-%d}; create a new authority")
        key = keys.generate()
        # A certificate that outlives its authority is refused from then on anyway: say so in its own date.
        end = min(start + _days(days), ends_with_us)
        builder = (
            _builder(name=name, issuer=self.certificate.subject, key=key, start=start, end=end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**{**_NO_USE, "digital_signature": True}), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(_issuer_identifier(self.certificate), critical=False)
        )
        return Credential(certificate=builder.sign(self.key, hashes.SHA256()), key=key)


def create_authority(name: str, *, days: int = AUTHORITY_DAYS, now: datetime.datetime | None = None) -> Authority:
    """A new authority that vouches for itself."""
    key = keys.generate()
    start = _moment(now)
    builder = (
        _builder(name=name, issuer=None, key=key, start=start, end=start + _days(days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**{**_NO_USE, "key_cert_sign": True, "crl_sign": True}), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return Authority(certificate=builder.sign(key, hashes.SHA256()), key=key)


def alternative_names(*, dns: list[str], ip: list[str]) -> list[x509.GeneralName]:
    """Subject alternative names, each once.

    Raises:
        PkiError: an entry is not a DNS name or not an IP address.
    """
    names: list[x509.GeneralName] = [x509.DNSName(_dns_name(host)) for host in dns]
    for address in ip:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError as error:
            raise PkiError(f'"{address}" is not an IP address; write it as 192.0.2.7 or 2001:db8::7') from error
    return list(dict.fromkeys(names))


def _dns_name(host: str) -> str:
    wildcard = "*." if host.startswith("*.") else ""
    try:
        name = normalise_host(host.removeprefix(wildcard))
    except ValueError as error:
        raise PkiError(f"{error}; write a DNS name such as tunnel.example.com") from error
    if ":" in host:
        raise PkiError(f'"{host}" is not a DNS name; write it without a port, an IP address with --ip')
    return wildcard + name


def _builder(
    *,
    name: str,
    issuer: x509.Name | None,
    key: keys.Key,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    try:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError as error:
        raise PkiError(f'"{name}" cannot be the name of a certificate; it has 1 to 64 characters') from error
    public: ec.EllipticCurvePublicKey = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _issuer_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The issuer's own key identifier, which need not be the hash that we would choose."""
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound as error:
        raise PkiError("the authority's certificate has no subject key identifier; create a new one") from error
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _moment(now: datetime.datetime | None) -> datetime.datetime:
    return (now or datetime.datetime.now(datetime.UTC)).replace(microsecond=0)


def _days(days: int) -> datetime.timedelta:
    if not 1 <= days <= 36500:
        raise PkiError(f"{days} days is not a life for a certificate; choose 1 to 36500")
    return datetime.timedelta(days=days)
