"""The server's own certificate, which the server renews where its authority issued it."""

import datetime
from contextlib import suppress
from pathlib import Path

from cryptography import x509

from zerotrust.model.base import is_address, normalise_host, split_address
from zerotrust.model.server import AgentListenerConfig
from zerotrust.pki import ca_directory, csr, key_pair_files, keys, renewal_time
from zerotrust.pki.ca_directory import load_certificates
from zerotrust.pki.chain_verification import is_ours
from zerotrust.pki.issuer import Issuer, ServerNames
from zerotrust.telemetry import logs

_log = logs.logger("identity")


class ServerCertificate:
    """A certificate and its key in two files. Certificates of other authorities are not renewed."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._part = renewal_time.share()

    def renew(
        self,
        issuer: Issuer,
        root: x509.Certificate,
        length: datetime.timedelta,
        now: datetime.datetime,
    ) -> str | None:
        """Replace the certificate by a new one for the same names, when it is due.

        Returns:
            The end of the new one's validity, for people; None where it was not due, or another
            authority issued it.

        Raises:
            PkiError: the files can't be read or written, or the issuer has expired.
        """
        chain = load_certificates(self._certificate)
        if now.timestamp() < renewal_time.renew_at(chain[0], self._part) or not is_ours(
            chain, issuer, root
        ):
            return None
        new = csr.create()
        issued = issuer.issue_server(new.pem, _names(chain[0]), length, now)
        key_pair_files.replace(
            self._certificate, self._key, chain=issued.chain_pem, key_pem=keys.to_pem(new.key)
        )
        return f"{issued.not_after:%Y-%m-%d %H:%M:%S} UTC"


def websocket_hosts(config: AgentListenerConfig) -> frozenset[str]:
    """Return the host names at which agents may reach the server by a WebSocket.

    Raises:
        PkiError: the server's certificate can't be read.
    """
    if config.websocket_hosts is not None:
        return frozenset(config.websocket_hosts)
    names = _names(load_certificates(Path(config.cert_file))[0]).dns
    if config.public_addr is not None:
        names = [*names, split_address(config.public_addr, default_port=0)[0]]
    hosts = set()
    for name in names:
        with suppress(ValueError):  # a wildcard, or a name that is no host name
            hosts.add(normalise_host(name))
    # Caddy may order a certificate for each of them, which authorities refuse for many addresses.
    return frozenset(host for host in hosts if not is_address(host))


def names_host(name: str, host: str) -> bool:
    """Return True where a certificate's name covers a host (RFC 9525 s6.3)."""
    return name.lower() in (host, f"*.{host.partition('.')[2]}")


def log_foreign_member_addr(config: AgentListenerConfig) -> None:
    """Log a warning if the server's certificate is not for `member_addr`.

    Raises:
        PkiError: the certificate can't be read.
    """
    if config.member_addr is None:
        return
    host = split_address(config.member_addr)[0]
    names = ca_directory.describe_file(Path(config.cert_file)).names
    if not any(names_host(name, host) for name in names):
        _log.warning(
            "server.member_addr: the server's certificate is not for this host: agents that learn"
            " of it refuse this server",
            host=host,
            certificate=", ".join(names) or "no name",
        )


def _names(certificate: x509.Certificate) -> ServerNames:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ServerNames()
    return ServerNames(
        dns=names.get_values_for_type(x509.DNSName),
        ip=[str(address) for address in names.get_values_for_type(x509.IPAddress)],
    )
