"""Certificates in a storage of Caddy."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID


def store_certificate(storage: Path, host: str, *, begins: float, ends: float) -> Path:
    """Put a certificate for a host name where Caddy does; times are seconds since 1970."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(begins, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(ends, datetime.UTC))
        .sign(key, hashes.SHA256())
    )
    folder = storage / "certificates" / "acme-directory" / host
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{host}.crt"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return file
