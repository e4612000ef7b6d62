"""`rewrite`: changes the path for the backend; the query stays.

A prefix ends at the end of a segment: `/api` matches `/api/x`, not `/apix`. It is found in any
percent-encoding, and the rest of the target stays unchanged byte for byte.

With `{/pub: /files/public}` clients must reach only what is below `/files/public`. Backends read
paths in different ways (`routing.match`). So a path with dot segments is refused, and so is one
that the rules rewrite differently in different readings.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from zerotrust.errors import ForwardError
from zerotrust.middleware.interface import Answer, Request
from zerotrust.model.middleware_settings import RewriteConfig
from zerotrust.routing.match import AmbiguousPath, readings


class _Rule(NamedTuple):
    old: bytes
    """The prefix and a slash."""

    pattern: "re.Pattern[bytes]"
    new: bytes


class RewriteMiddleware:
    """Handler that replaces one prefix by another."""

    __slots__ = ("_rules",)

    def __init__(self, config: RewriteConfig) -> None:
        rules = config.replace_prefix or {config.strip_prefix or "": ""}
        self._rules = [
            _Rule(old.encode() + b"/", _pattern(old.encode()), new.encode())
            for old, new in rules.items()
        ]

    def request(self, request: Request, now: float) -> Answer | None:
        target = request.target
        if target == b"*":
            return None
        try:
            rule = self._rule(readings(target.partition(b"?")[0]))
        except ForwardError as error:
            return Answer(error.status, code=error.code, message=str(error))
        if rule is not None:
            match = rule.pattern.match(target)
            assert match is not None  # the pattern matches the literal reading in the target
            request.target = _joined(rule.new, target[match.end() :])
        return None

    def _rule(self, paths: Iterable[bytes]) -> "_Rule | None":
        """Return the rule for all readings of a path; None if no rule matches."""
        found = {
            next((rule for rule in self._rules if (path + b"/").startswith(rule.old)), None)
            for path in paths
        }
        if len(found) > 1:
            raise AmbiguousPath(
                "the path is ambiguous: rewrite rules apply to some readings of it only"
            )
        return found.pop()


def _joined(prefix: bytes, rest: bytes) -> bytes:
    # A target begins with one slash (RFC 9112 s3.2.1): after two, some backends read a host name.
    if not prefix:
        return b"/" + rest.lstrip(b"/\\")
    return prefix + rest


def _pattern(prefix: bytes) -> "re.Pattern[bytes]":
    """Return a pattern for the prefix, up to the end of a segment.

    Each byte may be literal or percent-encoded, a slash only literal.
    """
    signs = (
        b"/" if sign == 0x2F else rb"(?:%b|%%(?i:%02x))" % (re.escape(bytes([sign])), sign)
        for sign in prefix
    )
    return re.compile(b"".join(signs) + rb"(?=[/?]|\Z)")
