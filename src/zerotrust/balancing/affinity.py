"""Session affinity: a signed cookie names the upstream for a browser's requests.

The value is 64 characters of base64url (RFC 4648 s5):

     8 bytes   the upstream, as a keyed hash of its address: opaque, and stable over restarts
     8 bytes   expiry of the cookie, in seconds since 1970
    32 bytes   HMAC-SHA256 (RFC 2104) of these, with a key of the service

A forged cookie could only choose an upstream; the signature keeps clients from controlling the
agent at all. An invalid cookie is ignored and the response sets a new one. A valid cookie is
renewed after half of its lifetime, so that a returning browser keeps its upstream.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from itertools import islice
from struct import Struct
from typing import Final, NamedTuple

COOKIE: Final = b"0trust_affinity"

_VALUE: Final = re.compile(rb"(?:\A|;)[\t ]*+%b=([0-9A-Za-z_-]{64})[\t ]*+(?=;|\Z)" % COOKIE)
_CLAIM: Final = Struct(">8sQ")
_MAX_TRIED: Final = 4
"""Maximum cookies of our name to check. A browser sends one, and one more if a parent domain set
it."""


class AffinityCookie(NamedTuple):
    """Content of a valid cookie.

    `renew` is True if less than half of its lifetime is left.
    """

    upstream: str
    renew: bool


class Affinity:
    """Affinity cookies of one service.

    All times are seconds since 1970, not monotonic: a cookie outlives the process.

    Args:
        secret: at least 32 random bytes. When they change, all cookies become invalid.
        service: id of the service. A cookie is invalid for another service with the same secret.
        upstreams: addresses of all upstreams.
        duration: lifetime of a cookie in seconds.
    """

    __slots__ = ("_addresses", "_duration", "_ids", "_key")

    def __init__(
        self, *, secret: bytes, service: str, upstreams: Iterable[str], duration: float
    ) -> None:
        self._key = _mac(secret, b"service " + service.encode())
        self._duration = duration
        self._ids = {
            address: _mac(self._key, b"upstream " + address.encode())[:8] for address in upstreams
        }
        self._addresses = {opaque: address for address, opaque in self._ids.items()}

    def read(self, cookies: bytes, now: float) -> AffinityCookie | None:
        """Return the content of our cookie; None without a valid one.

        Args:
            cookies: value of the `Cookie` header (RFC 6265 s4.2), as the client sent it.
        """
        for match in islice(_VALUE.finditer(cookies), _MAX_TRIED):
            value = urlsafe_b64decode(match[1])
            claim, signature = value[: _CLAIM.size], value[_CLAIM.size :]
            if hmac.compare_digest(signature, self._sign(claim)):
                opaque, expires_at = _CLAIM.unpack(claim)
                if now < expires_at and opaque in self._addresses:
                    return AffinityCookie(
                        self._addresses[opaque], expires_at - now < self._duration / 2
                    )
        return None

    def issue(self, upstream: str, now: float, *, secure: bool) -> bytes:
        """Return the `Set-Cookie` line, with CRLF, that keeps the client on this upstream.

        Args:
            upstream: one of the addresses.
            secure: True if the client used https.
        """
        claim = _CLAIM.pack(self._ids[upstream], int(now + self._duration))
        return b"Set-Cookie: %b=%b; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%b\r\n" % (
            COOKIE,
            urlsafe_b64encode(claim + self._sign(claim)),
            int(self._duration),
            b"; Secure" if secure else b"",
        )

    def _sign(self, claim: bytes) -> bytes:
        return _mac(self._key, b"cookie " + claim)


def strip(cookies: bytes) -> bytes:
    """Return the value of a `Cookie` header without our cookie.

    It is empty if there is no other cookie: then omit the header. Other cookies stay byte for byte.
    """
    if COOKIE not in cookies:
        return cookies
    pairs = cookies.split(b";")
    others = [pair for pair in pairs if pair.partition(b"=")[0].strip(b"\t ") != COOKIE]
    return cookies if len(others) == len(pairs) else b";".join(others).strip(b"\t ")


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
