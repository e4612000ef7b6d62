"""Join tokens, with the server's public address and the fingerprint of its root certificate."""

import ipaddress
from pathlib import Path

from zerotrust.errors import EnrollmentError
from zerotrust.model.base import split_address
from zerotrust.model.server import AgentListenerConfig
from zerotrust.pki import ca_directory
from zerotrust.pki.chain_verification import anchor
from zerotrust.pki.join_token import JoinToken, fingerprint
from zerotrust.server.identity.server_certificate import names_host


class JoinTokens:
    """Builds join tokens; reads the certificates each time, because they may change."""

    def __init__(self, settings: AgentListenerConfig) -> None:
        self._settings = settings

    def reconfigure(self, settings: AgentListenerConfig) -> None:
        """Use other settings from now on."""
        self._settings = settings

    def address(self, wanted: str | None) -> tuple[str, list[str]]:
        """Return the server's public address, "host:port", and warnings about it.

        It is `wanted`, else `server.public_addr`, else the first public name in the server's
        certificate. Agents verify that the certificate is for this name.

        Raises:
            EnrollmentError: the address is not set, or invalid.
            PkiError: the certificate can't be read.
        """
        names = ca_directory.describe_file(Path(self._settings.cert_file)).names
        _, listening = split_address(self._settings.listen_addr)
        given = wanted or self._settings.public_addr or next(filter(_is_public, names), None)
        if given is None:
            raise EnrollmentError(
                "the server's public address is not set: use --server HOST:PORT, or set"
                " server.public_addr in its file"
            )
        try:
            host, port = split_address(_bracketed(given), default_port=listening)
        except ValueError as error:
            raise EnrollmentError(str(error)) from None
        if not host or not port:
            raise EnrollmentError(f'"{given}" is not an address of this server; write host:port')
        host, warnings = host.lower().rstrip("."), []
        if not any(names_host(name, host) for name in names):
            known = ", ".join(names) or "no name"
            warnings.append(
                f"the server's certificate is for {known}, not for {host}: agents will refuse it"
            )
        return f"{_bracketed(host)}:{port}", warnings

    def create(self, server: str, secret: str) -> str:
        """Return the join token for an agent that joins at this address with this secret.

        Raises:
            PkiError: a certificate can't be read.
        """
        trusted = ca_directory.load_certificates(Path(self._settings.ca_file))
        # Of several roots, the one that the server's certificate leads to: the agent keeps no other
        # one.
        root = (
            anchor(ca_directory.load_certificates(Path(self._settings.cert_file)), trusted)
            or trusted[0]
        )
        return str(JoinToken(server=server, secret=secret, fingerprint=fingerprint(root)))


def _is_public(name: str) -> bool:
    """Return True for a name that is no wildcard, loopback address or "localhost"."""
    try:
        return not ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name != "localhost" and not name.startswith("*.")


def _bracketed(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return host
