"""Session affinity: a signed cookie names the upstream that a browser's requests go to.

The value is 64 characters of base64url (RFC 4648 s5):

     8 bytes   the upstream, as a keyed hash of its address: opaque, and the same after a restart
     8 bytes   when the cookie expires, in seconds since 1970
    32 bytes   HMAC-SHA256 (RFC 2104) of these, with a key of the service's own

Whoever can forge it could choose their upstream, no more; the signature is there so that nobody can tell the agent what
to do at all. What does not hold is as if it were not there, and the answer brings a new one; so does the answer to one
that is past the middle of its life, so that who keeps coming stays.
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
"""Cookies of our name that are looked at: a browser sends one, and one more where a parent domain planted it."""


class AffinityCookie(NamedTuple):
    """What a cookie says: the upstream, and whether it is to be renewed (less than half of its time is left)."""

    upstream: str
    renew: bool


class Affinity:
    """The cookies of one service.

    All times are seconds since 1970, not monotonic ones: a cookie outlives the process.

    Args:
        secret: at least 32 random bytes that stay the same for as long as cookies are to hold.
        service: the service's id: a cookie means nothing to another service with the same secret.
        upstreams: the addresses of all upstreams.
        duration: seconds that a cookie holds.
    """

    __slots__ = ("_addresses", "_duration", "_ids", "_key")

    def __init__(self, *, secret: bytes, service: str, upstreams: Iterable[str], duration: float) -> None:
        self._key = _mac(secret, b"service " + service.encode())
        self._duration = duration
        self._ids = {address: _mac(self._key, b"upstream " + address.encode())[:8] for address in upstreams}
        self._addresses = {opaque: address for address, opaque in self._ids.items()}

    def read(self, cookies: bytes, now: float) -> AffinityCookie | None:
        """What our cookie in the Cookie field says; None where nothing in it holds.

        Args:
            cookies: the value of the field (RFC 6265 s4.2), as the client sent it.
        """
        for match in islice(_VALUE.finditer(cookies), _MAX_TRIED):
            value = urlsafe_b64decode(match[1])
            claim, signature = value[: _CLAIM.size], value[_CLAIM.size :]
            if hmac.compare_digest(signature, self._sign(claim)):
                opaque, expires_at = _CLAIM.unpack(claim)
                if now < expires_at and opaque in self._addresses:
                    return AffinityCookie(self._addresses[opaque], expires_at - now < self._duration / 2)
        return None

    def issue(self, upstream: str, now: float, *, secure: bool) -> bytes:
        """The Set-Cookie line, with its CRLF, that keeps the client with this upstream.

        Args:
            upstream: one of the addresses.
            secure: the client came by https.
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
    """The value of a Cookie field without our cookie; empty where it held no other, and the field is to be left out.

    What else is in it stays byte for byte as it was.
    """
    if COOKIE not in cookies:
        return cookies
    pairs = cookies.split(b";")
    others = [pair for pair in pairs if pair.partition(b"=")[0].strip(b"\t ") != COOKIE]
    return cookies if len(others) == len(pairs) else b";".join(others).strip(b"\t ")


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
