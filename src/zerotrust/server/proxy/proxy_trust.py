"""Trust in proxies: who is believed when it says who its own client is.

A connection by unix socket is Caddy's, because only the server's user and root can open it. At a
port, every user of the machine can connect. There a proxy shows the secret in
`X-0Trust-Proxy-Secret`, or has an address in `api.trusted_proxies`. Everybody else is an ordinary
client, with the address of its connection, over http.

The secret is compared for each request, and not remembered for the connection: that needs no state,
and a request that came into a connection of Caddy by a fault of its parser is not believed.
"""

import hmac
import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from zerotrust.errors import PkiError, StateError
from zerotrust.http.head import RequestFields
from zerotrust.pki import keys
from zerotrust.telemetry import logs

_log = logs.logger("ingress")

_LOCALHOST: Final = b"127.0.0.1"
"""The client address of a connection by unix socket."""
_IPV6: Final = rb"([0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._-]{1,32})?"
_ADDRESS: Final = re.compile(
    rb"([0-9.]{7,15})(?::[0-9]{1,5})?|\[%b\](?::[0-9]{1,5})?|%b" % (_IPV6, _IPV6)
)
_SECRET: Final = re.compile(r"[0-9A-Za-z_.~+/=-]{32,1024}")


class ProxyTrust:
    """Decides which address and scheme the client of a request has.

    Args:
        networks: addresses of proxies that need no secret.
        secret: the value by which all others prove themselves.
    """

    def __init__(self, networks: Sequence[str], secret: str) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._secret = secret.encode()
        self._warned: set[str] = set()
        self._is_trusted = lru_cache(maxsize=1024)(self._trusts)

    def client(self, peer: str | None, fields: RequestFields) -> tuple[bytes, bytes, bool]:
        """Return the client's address and scheme, and True if a trusted proxy has sent them.

        The address is empty where the proxy sent none that is readable. The proxy's own address in
        its place would open to every client what is open to the proxy alone.

        Args:
            peer: address of the connection's other end; None for a unix socket.
        """
        if peer is not None and not self._is_trusted(peer) and not self._proves(peer, fields):
            return _address(peer.encode()), b"http", False
        scheme = b"http" if fields.forwarded_proto == b"http" else b"https"
        if fields.real_ip is None and fields.forwarded_for is None:
            return _address(peer.encode()) if peer is not None else _LOCALHOST, scheme, True
        sent = fields.real_ip or (fields.forwarded_for or b"").rpartition(b",")[2]
        client = _address(sent)
        if not client:
            self._warn(
                "a trusted proxy sent no readable client address",
                proxy=peer,
                sent=sent[:64].decode("latin-1"),
                hint="set X-Real-IP to one address, or X-Forwarded-For to a list, in the proxy",
            )
        return client, scheme, True

    def _trusts(self, peer: str) -> bool:
        peer_address = _address(peer.encode())
        if not peer_address:
            return False
        address = ipaddress.ip_address(peer_address.decode())
        return any(address in network for network in self._networks)

    def _proves(self, peer: str, fields: RequestFields) -> bool:
        """Return True if a request has the secret."""
        shown = fields.proxy_secret
        if shown is None:
            return False
        if hmac.compare_digest(shown, self._secret):
            return True
        self._warn(
            "a proxy sent a wrong secret, and counts as a client",
            proxy=peer,
            hint="send the content of proxy-secret in state.dir as X-0Trust-Proxy-Secret",
        )
        return False

    def _warn(self, event: str, **fields: object) -> None:
        """Log a warning once: whoever connects may cause it with each request."""
        if event not in self._warned:
            self._warned.add(event)
            _log.warning(event, **fields)


@dataclass(frozen=True, slots=True)
class ProxySecret:
    """The value by which proxies prove themselves; `is_new` if none of them can have it yet."""

    text: str = field(repr=False)
    is_new: bool


def load_proxy_secret(path: Path) -> ProxySecret:
    """Return the secret in a file; create the file with a random one if there is none.

    Raises:
        StateError: the file can't be read or written, or has no secret.
    """
    is_new = not path.exists()
    try:
        text = keys.read_or_create(
            path, lambda: secrets.token_urlsafe(32), what="secret of the proxies"
        )
    except PkiError as error:
        raise StateError(str(error)) from error
    if not _SECRET.fullmatch(text):
        raise StateError(
            f"{path}: no secret of 32 to 1024 letters and digits; remove it, and the server makes"
            " a new one"
        )
    return ProxySecret(text, is_new)


@lru_cache(maxsize=4096)
def _address(text: bytes) -> bytes:
    """Return an address in its canonical form, without a port; empty where the text is no address.

    An IPv4-mapped IPv6 address (RFC 4291 s2.5.5.2) becomes the IPv4 address. A zone (RFC 4007 s11)
    is left out: it has a meaning only on the machine that wrote it.
    """
    match = _ADDRESS.fullmatch(text.strip(b" \t"))
    if match is None:
        return b""
    try:
        if match[1] is not None:
            return str(ipaddress.IPv4Address(match[1].decode())).encode()
        address = ipaddress.IPv6Address((match[2] or match[3]).decode())
    except ValueError:
        return b""
    return str(address.ipv4_mapped or address).encode()
