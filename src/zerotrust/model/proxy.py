"""Proxy between the agent and its server, and the addresses that need none."""

import ipaddress
from dataclasses import dataclass, field
from typing import Final, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from zerotrust.model.base import join_address, normalise_host, split_address

Scheme = Literal["http", "https", "socks5"]

NONE: Final = "none"
"""Value of `server.proxy` that turns the variables of the environment off."""
SETTING: Final = "server.proxy"

_DEFAULT_PORTS: Final[dict[Scheme, int]] = {"http": 80, "https": 443, "socks5": 1080}
_EXAMPLES: Final = "write http://proxy.example.com:3128 or socks5://proxy.example.com:1080"
_MAX_CREDENTIAL: Final = 255
"""Bytes of a user name or a password (RFC 1929)."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: HTTP with CONNECT, the same over TLS (`https`), or SOCKS5.

    Its text has no password: it is for logs and errors.

    Attributes:
        setting: the key or the environment variable that names the proxy.
    """

    scheme: Scheme
    host: str
    port: int
    setting: str
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str, *, setting: str) -> Self:
        """Return the proxy of a URL. Without a scheme it is an HTTP proxy.

        Raises:
            ValueError: not the URL of a proxy. The message has no part of it, because it may hold a
                password.
        """
        url = text.strip()
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname or "", parts.port
            host = host if parse_ip(host) else normalise_host(host)
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
        except ValueError:
            raise ValueError(f"invalid proxy URL: {_EXAMPLES}") from None
        # socks5h is curl's name for a SOCKS5 proxy that resolves names.
        scheme = "socks5" if parts.scheme == "socks5h" else parts.scheme
        if scheme not in _DEFAULT_PORTS:
            raise ValueError(f"unknown kind of proxy: {_EXAMPLES}")
        if port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(f"invalid proxy URL: {_EXAMPLES}")
        proxy = cls(scheme, host, port or _DEFAULT_PORTS[scheme], setting, user, password)
        return proxy.with_password(password)

    @classmethod
    def parse_setting(cls, text: str) -> Self | None:
        """Return the proxy of `server.proxy`; None if that is `none`.

        Raises:
            ValueError: neither a URL without a password nor `none`.
        """
        if text.lower() == NONE:
            return None
        if "://" not in text:
            raise ValueError(f"invalid proxy URL: {_EXAMPLES}, or none")
        proxy = cls.parse(text, setting=SETTING)
        if proxy.password:
            raise ValueError(
                "the URL has a password: remove it, write it to a file, and name that in"
                " proxy_password_file"
            )
        return proxy

    def with_password(self, password: str) -> Self:
        """Return the same proxy with this password.

        Raises:
            ValueError: the protocol cannot carry the user name or the password.
        """
        if password and not self.user:
            raise ValueError(
                f"a password needs a user: write {self.scheme}://USER@{self._authority}"
            )
        for value in (self.user, password):
            if len(value.encode()) > _MAX_CREDENTIAL or not (value.isprintable()):
                raise ValueError(
                    "the user or the password of the proxy is too long or has control characters"
                )
        if ":" in self.user:
            raise ValueError("the user of a proxy cannot have a colon")
        return type(self)(self.scheme, self.host, self.port, self.setting, self.user, password)

    @property
    def url(self) -> str:
        """The URL without the password."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return f"{self.scheme}://{user}{self._authority}"

    @property
    def _authority(self) -> str:
        return join_address(self.host, self.port)

    def __str__(self) -> str:
        return f"proxy {self.url} ({self.setting})"


class NoProxy:
    """Addresses that are reached without a proxy: the value of `NO_PROXY`.

    It is a list of names (with all names below them), IP addresses, networks (`10.0.0.0/8`), each
    with or without a port, or `*` for everything. Names are not resolved for it.
    """

    def __init__(self, text: str) -> None:
        self._entries = list(map(_parse_entry, text.lower().replace(",", " ").split()))

    def covers(self, host: str, port: int) -> bool:
        """Return True if the address is reached without a proxy."""
        name = host.lower().rstrip(".")
        address = parse_ip(name)
        return any(
            wanted_port in (None, port) and _matches(wanted, name, address)
            for wanted, wanted_port in self._entries
        )


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _parse_entry(entry: str) -> tuple[str | _Network, int | None]:
    """Return the name or network of an entry, and its port if it has one."""
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False), None
    except ValueError:
        pass
    try:
        host, port = split_address(entry)
    except ValueError:
        host, port = entry, 0
    address = parse_ip(host)
    if address is not None:
        return ipaddress.ip_network(address), port or None
    return host.removeprefix("*.").strip("."), port or None


def _matches(wanted: str | _Network, name: str, address: _Address | None) -> bool:
    if isinstance(wanted, str):
        # A name never stands for the end of an IP address.
        return wanted in ("*", name) or (address is None and name.endswith(f".{wanted}"))
    return address is not None and address in wanted


def parse_ip(text: str) -> _Address | None:
    """Return the IP address of a text, which may be in brackets; None if it is none."""
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
