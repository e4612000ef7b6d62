"""Ping of a public host name: proves which installation of 0Trust serves it.

A client sends `GET /.0trust/ping?nonce=NONCE`. The answer has a proof for each root certificate of
the server: an HMAC under the certificate's SHA-256. Agents and servers of one installation have a
root in common, so they recognise each other. Roots are no secrets: the proof tells installations
apart. It authenticates no one.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from typing import Final

PING_PREFIX: Final = b"/.0trust/ping?nonce="
NONCE_BYTES: Final = 16
"""Random bytes of a nonce. It is sent as hexadecimal digits."""
PING_LENGTH: Final = len(PING_PREFIX) + 2 * NONCE_BYTES
"""Length of the target of each ping."""
MAX_ROOTS: Final = 4
MAX_ANSWER: Final = 4096

_NONCE: Final = re.compile(rb"[0-9a-f]{32}")
_PROXY_FIELD: Final = re.compile(
    rb"^(cf-ray|cdn-loop|fastly-ff|x-amz-cf-id|x-akamai-edgescape|x-azure-ref|x-vercel-id"
    rb"|fly-request-id|via): *([^\r\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
"""Fields that content delivery networks and other proxies add to requests."""
_OWN_VIA: Final = re.compile(rb"[0-9.]+ caddy", re.IGNORECASE)


class PingAnswer:
    """Answer of a server to a ping, as a client reads it.

    Attributes:
        proofs: a proof for each root certificate.
        proxies: names of the fields that a proxy in front of the server has added.
        unix_time: the server's clock.
    """

    __slots__ = ("proofs", "proxies", "unix_time")

    def __init__(self, proofs: list[str], proxies: list[str], unix_time: float) -> None:
        self.proofs = proofs
        self.proxies = proxies
        self.unix_time = unix_time


def nonce_of(target: bytes) -> bytes | None:
    """Return the nonce in the target of a request; None if the request is no ping."""
    nonce = target.removeprefix(PING_PREFIX)
    if len(nonce) == len(target) or _NONCE.fullmatch(nonce) is None:
        return None
    return nonce


def proof(root: bytes, host: str, nonce: bytes) -> str:
    """Return the proof for a root certificate (its SHA-256) and a host name."""
    return hmac.new(root, b"ping %b %b" % (host.encode(), nonce), hashlib.sha256).hexdigest()


def answer_body(
    roots: Iterable[bytes], host: str, nonce: bytes, *, lines: bytes, unix_time: float
) -> bytes:
    """Return the body of the answer to a ping.

    Args:
        roots: the SHA-256 of each root certificate.
        lines: header lines of the request.
    """
    proofs = [proof(root, host, nonce) for root in roots]
    answer = {"proofs": proofs, "proxies": proxies_in(lines), "time": round(unix_time, 3)}
    return json.dumps(answer).encode()


def proxies_in(lines: bytes) -> list[str]:
    """Return the names of the fields that a proxy other than Caddy has added to a request."""
    found = [
        match[1].decode().lower()
        for match in _PROXY_FIELD.finditer(lines)
        if match[1].lower() != b"via" or _OWN_VIA.fullmatch(match[2].strip()) is None
    ]
    return list(dict.fromkeys(found))


def parse_answer(body: bytes) -> PingAnswer | None:
    """Return the answer to a ping; None if a server of 0Trust has not sent it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    proofs, proxies, unix_time = found.get("proofs"), found.get("proxies"), found.get("time")
    if not (isinstance(proofs, list) and isinstance(proxies, list)):
        return None
    if not isinstance(unix_time, (int, float)) or isinstance(unix_time, bool):
        return None
    texts = [str(one) for one in proxies if str(one).isascii() and len(str(one)) < 64]
    return PingAnswer([str(one) for one in proofs[:MAX_ROOTS]], texts[:16], float(unix_time))
