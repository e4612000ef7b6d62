"""`rewrite`: the backend sees another path; the query stays.

A prefix ends where a segment ends: `/api` is in `/api/x`, not in `/apix`. It is found in the target however it is
percent-encoded, and what stands behind it stays byte for byte.
"""

import re

from zerotrust.handlers.protocol import Request
from zerotrust.model.handler_settings import RewriteConfig


class Rewrite:
    """Puts one prefix in the place of another."""

    __slots__ = ("_rules",)

    def __init__(self, config: RewriteConfig) -> None:
        rules = config.replace_prefix or {config.strip_prefix or "": ""}
        self._rules = [(_pattern(old.encode()), new.encode()) for old, new in rules.items()]

    def request(self, request: Request, now: float) -> None:
        target = request.target
        for old, new in self._rules:
            match = old.match(target)
            if match is not None:
                request.target = _joined(new, target[match.end() :])
                return


def _joined(prefix: bytes, rest: bytes) -> bytes:
    # A target begins with one slash (RFC 9112 s3.2.1): of two, some backends read a host name.
    if not prefix:
        return b"/" + rest.lstrip(b"/\\")
    return prefix + rest


def _pattern(prefix: bytes) -> "re.Pattern[bytes]":
    """The prefix, with each byte as it is or percent-encoded (a slash only as it is), up to the end of a segment."""
    signs = (b"/" if sign == 0x2F else rb"(?:%b|%%(?i:%02x))" % (re.escape(bytes([sign])), sign) for sign in prefix)
    return re.compile(b"".join(signs) + rb"(?=[/?]|\Z)")
