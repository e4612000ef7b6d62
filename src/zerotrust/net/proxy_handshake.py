"""Requests to a proxy for a connection to a server: HTTP CONNECT (RFC 9110 s9.3.6) and SOCKS5 (RFC
1928, with the passwords of RFC 1929).

After a request has succeeded, the connection belongs to the server. Nothing of the server is read
too early, because a TLS server sends nothing before its client does.
"""

import asyncio
import base64
import re
from typing import Final

from zerotrust.errors import ProxyError
from zerotrust.model.base import join_address, normalise_host
from zerotrust.model.proxy import SETTING, Proxy, parse_ip
from zerotrust.net.channel import describe

MAX_HEAD: Final = 16 * 1024
"""Bytes of an HTTP proxy's answer."""

_CHECK_PROXY: Final = "check its address and scheme"
_STATUS: Final = re.compile(r"[0-9]{3}")

_NO_PASSWORD: Final = 0
_PASSWORD: Final = 2
_SOCKS_REASONS: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


async def request_tunnel(
    proxy: Proxy, host: str, port: int, reader: asyncio.StreamReader, transport: asyncio.Transport
) -> None:
    """Let the proxy connect to an address.

    Raises:
        ProxyError: it does not, or does not understand the request.
    """
    request = _request_by_socks if proxy.scheme == "socks5" else _request_by_http
    try:
        await request(proxy, _ascii(host), port, reader, transport)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise ProxyError(f"{proxy} closes the connection: {_CHECK_PROXY}, and its log") from None


def unreachable(proxy: Proxy, error: OSError) -> ProxyError:
    """Return the error of a connection to the proxy itself that failed."""
    return ProxyError(f"{proxy} cannot be reached: {describe(error)}; {_CHECK_PROXY}")


def late(proxy: Proxy, host: str, port: int, seconds: float) -> ProxyError:
    """Return the error of a connection that did not come about in time."""
    return ProxyError(
        f"{proxy} did not connect to {join_address(host, port)} within {seconds:g} s: check both"
        " addresses, and that the proxy allows this one"
    )


def broken(proxy: Proxy, host: str, port: int, error: OSError) -> ProxyError:
    """Return the error of a connection that broke before TLS with the server was established."""
    return ProxyError(
        f"{proxy} connected to {join_address(host, port)}, but TLS failed: {describe(error)}; check"
        " the server's address, and that the proxy allows TLS there"
    )


async def _request_by_http(
    proxy: Proxy, host: str, port: int, reader: asyncio.StreamReader, transport: asyncio.Transport
) -> None:
    target = join_address(host, port)
    credentials = ""
    if proxy.user:
        token = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode("ascii")
        credentials = f"Proxy-Authorization: Basic {token}\r\n"
    transport.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{credentials}\r\n".encode())
    status_line, *fields = await _read_head(proxy, reader)
    version, _, rest = status_line.partition(" ")
    code, _, phrase = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not _STATUS.fullmatch(code):
        raise ProxyError(f"{proxy} does not answer by HTTP: {_CHECK_PROXY}")
    if not code.startswith("2"):
        raise ProxyError(_refusal(proxy, target, int(code), phrase, fields))


async def _read_head(proxy: Proxy, reader: asyncio.StreamReader) -> list[str]:
    """Return the lines of a response head, without their ends."""
    lines: list[str] = []
    left = MAX_HEAD
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            left = 0
        else:
            left -= len(line)
        if left <= 0:
            raise ProxyError(
                f"{proxy} answers with more than {MAX_HEAD // 1024} KiB: {_CHECK_PROXY}"
            )
        text = line.rstrip(b"\r\n").decode("latin-1")
        if not text and lines:
            return lines
        lines.append(text)


def _refusal(proxy: Proxy, target: str, code: int, phrase: str, fields: list[str]) -> str:
    """Return why the proxy does not connect, and what to do."""
    if code == 407:
        offered = [
            value.split()[0]
            for name, _, value in (field.partition(":") for field in fields)
            if name.lower() == "proxy-authenticate" and value.strip()
        ]
        if offered and not any(scheme.lower() == "basic" for scheme in offered):
            return (
                f"{proxy} wants {_printable(', '.join(offered))} credentials (407), which the agent"
                " does not have: allow it this server without credentials, or by Basic"
            )
        if proxy.user:
            return f"{proxy} refuses the user or the password (407): correct them"
        return f"{proxy} wants a user and a password (407): {_credentials_fix(proxy)}"
    answer = f"{code} {_printable(phrase)}".strip()
    if code == 403:
        return f"{proxy} does not allow {target} ({answer}): allow this host and port in the proxy"
    if code in (502, 503, 504):
        return (
            f"{proxy} cannot connect to {target} ({answer}): check the server's address, and that"
            " the proxy can resolve and reach it"
        )
    return f"{proxy} does not connect to {target} ({answer}): {_CHECK_PROXY}, and its log"


async def _request_by_socks(
    proxy: Proxy, host: str, port: int, reader: asyncio.StreamReader, transport: asyncio.Transport
) -> None:
    target = join_address(host, port)
    methods = bytes((_NO_PASSWORD, _PASSWORD) if proxy.user else (_NO_PASSWORD,))
    transport.write(bytes((5, len(methods))) + methods)
    version, method = await reader.readexactly(2)
    if version != 5:
        raise ProxyError(f"{proxy} does not speak SOCKS5: {_CHECK_PROXY}")
    if method not in methods:
        fix = (
            "allow the agent's user by a password"
            if proxy.user
            else f"it may want a user and a password: {_credentials_fix(proxy)}"
        )
        raise ProxyError(f"{proxy} accepts none of the agent's ways to log in: {fix}")
    if method == _PASSWORD:
        user, password = proxy.user.encode(), proxy.password.encode()
        transport.write(b"\x01%c%b%c%b" % (len(user), user, len(password), password))
        _, status = await reader.readexactly(2)
        if status != 0:
            raise ProxyError(f"{proxy} refuses the user or the password: correct them")
    transport.write(b"\x05\x01\x00" + _socks_address(host) + port.to_bytes(2, "big"))
    version, status, _ = await reader.readexactly(3)
    if version != 5:
        raise ProxyError(f"{proxy} does not speak SOCKS5: {_CHECK_PROXY}")
    if status == 2:
        raise ProxyError(f"{proxy} does not allow {target}: allow this host and port in the proxy")
    if status != 0:
        reason = _SOCKS_REASONS.get(status, f"error {status}")
        raise ProxyError(
            f"{proxy} cannot connect to {target} ({reason}): check the server's address, and that"
            " the proxy can resolve and reach it"
        )
    # The address that the proxy connects from: read to be skipped.
    kind = (await reader.readexactly(1))[0]
    length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
    await reader.readexactly(length + 2)


def _socks_address(host: str) -> bytes:
    """Return type and address in the form of a SOCKS5 request; the proxy resolves names."""
    address = parse_ip(host)
    if address is None:
        return b"\x03%c%b" % (len(host), host.encode("ascii"))
    return bytes((1 if address.version == 4 else 4,)) + address.packed


def _ascii(host: str) -> str:
    """Return the host as proxies take it: IP addresses as they are, names as A-labels.

    Raises:
        ProxyError: not a host name.
    """
    try:
        return host if parse_ip(host) else normalise_host(host)
    except ValueError as error:
        raise ProxyError(f"server.address: {error}") from None


def _credentials_fix(proxy: Proxy) -> str:
    if proxy.setting == SETTING:
        return "name the user in server.proxy and set server.proxy_password_file"
    return f"add them to {proxy.setting}, or set server.proxy and server.proxy_password_file"


def _printable(text: str) -> str:
    """Return at most 100 characters of the proxy's text, safe for a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:100]).strip()
