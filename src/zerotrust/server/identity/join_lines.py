"""Address and CA fingerprint in the join tokens of this server."""

import ipaddress
from pathlib import Path

from zerotrust.errors import EnrolmentError
from zerotrust.model.base import split_address
from zerotrust.model.server import AgentListenerConfig
from zerotrust.pki import ca_directory
from zerotrust.pki.chain_verification import anchor
from zerotrust.pki.join_line import JoinLine, fingerprint


class JoinLines:
    """Builds join tokens. It reads the certificates each time: they change while the server runs."""

    def __init__(self, settings: AgentListenerConfig) -> None:
        self._settings = settings

    def use(self, settings: AgentListenerConfig) -> None:
        """Go by this from now on."""
        self._settings = settings

    def address(self, wanted: str | None) -> tuple[str, list[str]]:
        """Where agents reach the server, "host:port", and what is doubtful about it.

        It is what somebody wants, else `server.public_addr`, else the first name in the server's
        certificate: agents insist on a name that stands there.

        Raises:
            EnrolmentError: nothing of that says an address.
            PkiError: the certificate can't be read.
        """
        names = ca_directory.describe_file(Path(self._settings.cert_file)).names
        _, listening = split_address(self._settings.listen_addr)
        given = wanted or self._settings.public_addr or next(filter(_from_outside, names), None)
        if given is None:
            raise EnrolmentError(
                "the server's public address is not set: use --server HOST:PORT, or set server.public_addr in its file"
            )
        try:
            host, port = split_address(_bracketed(given), default_port=listening)
        except ValueError as error:
            raise EnrolmentError(str(error)) from None
        if not host or not port:
            raise EnrolmentError(f'"{given}" is not an address of this server; write host:port')
        host, warnings = host.lower().rstrip("."), []
        if not any(_stands_for(name, host) for name in names):
            known = ", ".join(names) or "no name"
            warnings.append(f"the server's certificate is for {known}, not for {host}: agents will refuse it")
        return f"{_bracketed(host)}:{port}", warnings

    def line(self, server: str, token: str) -> str:
        """Return the join token for an agent that joins at this address with this secret.

        Raises:
            PkiError: a certificate can't be read.
        """
        believed = ca_directory.load_certificates(Path(self._settings.ca_file))
        # Of several roots the one by which the agent will know this server: it is the only one that it keeps.
        root = anchor(ca_directory.load_certificates(Path(self._settings.cert_file)), believed) or believed[0]
        return str(JoinLine(server=server, token=token, fingerprint=fingerprint(root)))


def _from_outside(name: str) -> bool:
    """A name that others can dial, so no wildcard and not this machine's name for itself."""
    try:
        return not ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name != "localhost" and not name.startswith("*.")


def _stands_for(name: str, host: str) -> bool:
    """RFC 9525 s6.3: the first label may be a star."""
    return name.lower() in (host, f"*.{host.partition('.')[2]}")


def _bracketed(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return host
