"""What agents' certificates are made with, as the server's file says, and whom agents are told to believe."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from zerotrust.errors import PkiError
from zerotrust.model.server import ServerConfig
from zerotrust.pki import ca_directory, keys
from zerotrust.pki.chain_verification import anchor
from zerotrust.pki.issuer import Issuer


@dataclass(frozen=True, kw_only=True)
class Authority:
    """An issuer, the roots that the server believes, and how long an agent's certificate is good for."""

    issuer: Issuer
    root_pem: bytes
    agent_lifetime: timedelta


def load_authority(config: ServerConfig) -> Authority | None:
    """The authority of a configuration; None where certificates are made by hand.

    Opening a key with a passphrase takes a moment, which is meant to be so.

    Raises:
        PkiError: a file is missing or unreadable, or what it would issue this server would not believe.
    """
    settings = config.authority
    if settings.cert_file is None and settings.key_file is None:
        return None
    if settings.cert_file is None or settings.key_file is None:
        raise PkiError("authority.cert_file and authority.key_file belong together: name both, or neither")
    passphrase = None if settings.passphrase_file is None else Path(settings.passphrase_file)
    issuer = ca_directory.load_issuer(Path(settings.cert_file), Path(settings.key_file), passphrase)
    believed = Path(config.server.ca_file)
    if anchor([issuer.certificate, *issuer.above], ca_directory.load_certificates(believed)) is None:
        raise PkiError(
            f"{settings.cert_file}: nothing in {believed} (server.ca_file) has issued this; "
            "the server would refuse the agents that it lets join"
        )
    return Authority(
        issuer=issuer,
        root_pem=keys.read(believed, what="certificate"),
        agent_lifetime=timedelta(seconds=settings.agent_lifetime),
    )
