"""Foreign authorities: one certificate that signs everything, with any key and any names."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from zerotrust.pki import ca_directory, csr, keys
from zerotrust.pki.issuer import ServerNames

YEAR = datetime.timedelta(days=365)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@dataclass(frozen=True)
class ForeignCertificate:
    """A certificate and its key; `issue` signs certificates below it."""

    certificate: x509.Certificate
    key: keys.Key

    @classmethod
    def root(
        cls, name: str = "Our own CA", *, key: keys.Key | None = None, path_length: int | None = 0
    ) -> Self:
        """Return a root with no issuing certificate below it, as `openssl req -x509` makes it."""
        private = keys.generate() if key is None else key
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, subject, private)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(_signs(), critical=True)
        )
        return cls(builder.sign(private, keys.signing_hash(private)), private)

    def issue(
        self,
        *common_names: str,
        uris: tuple[str, ...] = (),
        dns: tuple[str, ...] = (),
        ip: tuple[str, ...] = (),
        ca: bool = False,
        start: datetime.datetime | None = None,
        end: datetime.datetime | None = None,
    ) -> Self:
        """Issue a certificate for both sides of TLS or, with `ca`, for an authority."""
        private = keys.generate()
        subject = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in common_names]
        )
        builder = (
            _builder(subject, self.certificate.subject, private, start=start, end=end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
                ),
                critical=False,
            )
        )
        if ca:
            builder = builder.add_extension(_signs(), critical=True)
        names = [
            *map(x509.UniformResourceIdentifier, uris),
            *map(x509.DNSName, dns),
            *map(x509.IPAddress, map(ipaddress.ip_address, ip)),
        ]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return type(self)(builder.sign(self.key, keys.signing_hash(self.key)), private)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def store(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write the certificate and its key to files."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(keys.to_pem(self.key))
        return certificate, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: keys.Key,
    *,
    start: datetime.datetime | None = None,
    end: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(start or now() - datetime.timedelta(hours=1))
        .not_valid_after(end or now() + YEAR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signs() -> x509.KeyUsage:
    return x509.KeyUsage(False, False, False, False, False, True, True, False, False)


def issue_server_at(folder: Path, name: str, start: datetime.datetime) -> None:
    """Issue a certificate of the folder's authority for localhost, valid for a day from `start`."""
    made = csr.create()
    names = ServerNames(dns=["localhost"], ip=["127.0.0.1"])
    issued = ca_directory.load_authority(folder).issue_server(
        made.pem, names, datetime.timedelta(days=1), start
    )
    keys.write(folder / f"{name}.crt", issued.chain_pem, mode=keys.PUBLIC, replace=True)
    keys.write(folder / f"{name}.key", keys.to_pem(made.key), mode=keys.PRIVATE, replace=True)
