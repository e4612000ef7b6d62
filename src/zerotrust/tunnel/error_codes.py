"""Error codes of failed requests: errors of `zerotrust.errors` as codes in the tunnel."""

import re
from typing import Final

from zerotrust import errors
from zerotrust.tunnel.codes import Code

_ERRORS: Final[dict[Code, type[errors.ForwardError]]] = {
    Code.REFUSED: errors.Overloaded,
    Code.UNKNOWN_SERVICE: errors.ServiceGone,
    Code.UPSTREAM_UNREACHABLE: errors.UpstreamUnreachable,
    Code.UPSTREAM_TIMEOUT: errors.UpstreamTimeout,
    Code.CONNECT_TIMEOUT: errors.ConnectTimeout,
    Code.UPSTREAM_FAILED: errors.UpstreamFailed,
    Code.OVERLOADED: errors.Overloaded,
    Code.UPSTREAMS_DOWN: errors.UpstreamsDown,
    Code.UPSTREAMS_BUSY: errors.UpstreamsBusy,
    Code.WITHDRAWN: errors.ServiceGone,
}
_CODES: Final = {
    error: code
    for code, error in _ERRORS.items()
    if code not in (Code.REFUSED, Code.UNKNOWN_SERVICE)
}
"""The two codes left out say that the peer has not begun with the request, which no error says."""


_TIMED: Final = (Code.UPSTREAMS_DOWN, Code.UPSTREAMS_BUSY)
"""Codes whose reason begins with the seconds until a retry (section 2, Codes)."""
_TIME: Final = re.compile(r"([1-9][0-9]{0,3}) ")
_LONGEST: Final = 3600


def error_for(code: Code, reason: str) -> errors.ForwardError:
    """Return the error for a RESET.

    Its class decides the answer to the client; the peer's reason goes into the log.
    """
    retry_after = None
    if code in _TIMED and (match := _TIME.match(reason)) is not None:
        retry_after, reason = min(int(match[1]), _LONGEST), reason[match.end() :]
    return _ERRORS.get(code, errors.AgentLost)(reason or code.name, retry_after=retry_after)


def code_for(error: errors.ForwardError) -> Code:
    """Return the code that reports an error to the peer."""
    return _CODES.get(type(error), Code.INTERNAL)


def reason_for(error: errors.ForwardError) -> str:
    """Return the reason that goes with `code_for`."""
    return str(error) if error.retry_after is None else f"{error.retry_after} {error}"
