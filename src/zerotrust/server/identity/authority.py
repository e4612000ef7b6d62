"""Authority of a server: issuer of agents' certificates, and the roots to trust."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from zerotrust.errors import PkiError
from zerotrust.model.server import ServerConfig
from zerotrust.pki import ca_directory, keys
from zerotrust.pki.chain_verification import anchor
from zerotrust.pki.identity import serial_of
from zerotrust.pki.issuer import Issuer


@dataclass(frozen=True, kw_only=True)
class Authority:
    """An issuer, the roots that the server trusts, and the lifetime of agents' certificates."""

    issuer: Issuer
    root_pem: bytes
    agent_lifetime: timedelta


def load_authority(config: ServerConfig) -> Authority | None:
    """Return the authority of a configuration; None where certificates are issued by hand.

    Decrypting a key with a passphrase is slow on purpose.

    Raises:
        PkiError: a file is missing or unreadable, or this server would not trust certificates of
            the issuer.
    """
    settings = config.authority
    if settings.cert_file is None and settings.key_file is None:
        return None
    if settings.cert_file is None or settings.key_file is None:
        raise PkiError(
            "authority.cert_file and authority.key_file belong together: set both, or neither"
        )
    passphrase = None if settings.passphrase_file is None else Path(settings.passphrase_file)
    issuer = ca_directory.load_issuer(Path(settings.cert_file), Path(settings.key_file), passphrase)
    trusted = Path(config.server.ca_file)
    if anchor([issuer.certificate, *issuer.above], ca_directory.load_certificates(trusted)) is None:
        raise PkiError(
            f"{settings.cert_file}: not issued by a certificate in {trusted} (server.ca_file); "
            "the server would reject the agents that join"
        )
    return Authority(
        issuer=issuer,
        root_pem=keys.read(trusted, what="certificate"),
        agent_lifetime=timedelta(seconds=settings.agent_lifetime),
    )


def issuer_serial(authority: Authority | None) -> str | None:
    """Return the serial number of the issuing certificate; None without an authority."""
    return None if authority is None else serial_of(authority.issuer.certificate)
