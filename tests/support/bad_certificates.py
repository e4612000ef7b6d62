"""Invalid certificates: any issuer, subject and dates."""

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.support.raw_agent import client_context
from zerotrust.pki import ca_directory, keys
from zerotrust.pki.identity import AGENT_URN, serial_of
from zerotrust.pki.issuer import Issuer

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A certificate with its chain and key, in files."""

    chain: Path
    key: Path
    root: Path

    @property
    def serial(self) -> str:
        return serial_of(ca_directory.load_certificate(self.chain))

    def client(self, *protocols: str) -> ssl.SSLContext:
        """Return a client's TLS context with this certificate."""
        context = client_context(str(self.root), *protocols)
        context.load_cert_chain(self.chain, self.key)
        return context


class BadCertificateIssuer:
    """Issuer of any certificate, with the stolen issuing key of a folder.

    Args:
        root: root certificate that the clients trust.
    """

    def __init__(self, folder: Path, out: Path, *, root: Path) -> None:
        self.issuer = ca_directory.load_authority(folder)
        self.out = out
        self.root = root
        out.mkdir(parents=True, exist_ok=True)

    def sign_with(self, credentials: Credentials) -> None:
        """Sign with an agent's key from now on, which belongs to no authority."""
        certificate, *above = ca_directory.load_certificates(credentials.chain)
        self.issuer = Issuer(
            certificate=certificate, key=keys.read_key(credentials.key), above=tuple(above)
        )

    def certificate(
        self,
        file: str,
        *,
        name: str | None = None,
        ids: tuple[str, ...] = (),
        begins: datetime.timedelta = datetime.timedelta(minutes=-5),
        ends: datetime.timedelta = datetime.timedelta(hours=1),
        usage: ObjectIdentifier = CLIENT,
        authority: bool = False,
    ) -> Credentials:
        """Issue a certificate with a common name, agent ids and dates relative to now."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        subject = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name is not None else []
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.issuer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if ids:
            names = [x509.UniformResourceIdentifier(AGENT_URN + one) for one in ids]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(self.issuer.key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        chain = [made, self.issuer.certificate, *self.issuer.above]
        return self.write(file, b"".join(one.public_bytes(pem) for one in chain), key)

    def write(self, file: str, chain_pem: bytes, key: ec.EllipticCurvePrivateKey) -> Credentials:
        """Write a certificate chain and its key to files."""
        pem = serialization.Encoding.PEM
        found = Credentials(
            chain=self.out / f"{file}.crt", key=self.out / f"{file}.key", root=self.root
        )
        found.chain.write_bytes(chain_pem)
        found.key.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return found
