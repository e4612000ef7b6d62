"""`rewrite`: the backend sees another path; the query stays.

A prefix ends where a segment ends: `/api` is in `/api/x`, not in `/apix`. It is found in the target however it is
percent-encoded, and what stands behind it stays byte for byte.

With `{/pub: /files/public}` clients are to reach what is below `/files/public` and nothing beside it. So a path is read
in every way in which a backend may read it (`routing.match`): one with dot segments, and one that the rules take
differently in different readings, is refused.
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
    """Puts one prefix in the place of another."""

    __slots__ = ("_rules",)

    def __init__(self, config: RewriteConfig) -> None:
        rules = config.replace_prefix or {config.strip_prefix or "": ""}
        self._rules = [_Rule(old.encode() + b"/", _pattern(old.encode()), new.encode()) for old, new in rules.items()]

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
            assert match is not None  # the pattern is for the first reading, as it is written in the target
            request.target = _joined(rule.new, target[match.end() :])
        return None

    def _rule(self, paths: Iterable[bytes]) -> "_Rule | None":
        """Return the rule that takes all readings of a path; None where none takes one."""
        found = {next((rule for rule in self._rules if (path + b"/").startswith(rule.old)), None) for path in paths}
        if len(found) > 1:
            raise AmbiguousPath("the path is rewritten in another way where it is read differently")
        return found.pop()


def _joined(prefix: bytes, rest: bytes) -> bytes:
    # A target begins with one slash (RFC 9112 s3.2.1): of two, some backends read a host name.
    if not prefix:
        return b"/" + rest.lstrip(b"/\\")
    return prefix + rest


def _pattern(prefix: bytes) -> "re.Pattern[bytes]":
    """The prefix, with each byte as it is or percent-encoded (a slash only as it is), up to the end of a segment."""
    signs = (b"/" if sign == 0x2F else rb"(?:%b|%%(?i:%02x))" % (re.escape(bytes([sign])), sign) for sign in prefix)
    return re.compile(b"".join(signs) + rb"(?=[/?]|\Z)")
