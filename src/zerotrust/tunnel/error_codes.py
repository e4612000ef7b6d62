"""How a request's failure crosses the tunnel: an error of `zerotrust.errors` on each side, a code between them."""

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
_CODES: Final = {error: code for code, error in _ERRORS.items() if code not in (Code.REFUSED, Code.UNKNOWN_SERVICE)}
"""Those left out say that nobody has begun with the request, which no error does."""


_TIMED: Final = (Code.UPSTREAMS_DOWN, Code.UPSTREAMS_BUSY)
"""Their reasons begin with the time after which the request may be tried again (section 2, Codes)."""
_TIME: Final = re.compile(r"([1-9][0-9]{0,3}) ")
_LONGEST: Final = 3600


def error_for(code: Code, reason: str) -> errors.ForwardError:
    """What a RESET means for the request. The peer's words are for the log; the class decides what the client hears."""
    retry_after = None
    if code in _TIMED and (match := _TIME.match(reason)) is not None:
        retry_after, reason = min(int(match[1]), _LONGEST), reason[match.end() :]
    return _ERRORS.get(code, errors.AgentLost)(reason or code.name, retry_after=retry_after)


def code_for(error: errors.ForwardError) -> Code:
    """The code with which a failure is reported to the other end."""
    return _CODES.get(type(error), Code.INTERNAL)


def reason_for(error: errors.ForwardError) -> str:
    """The reason that goes with `code_for`."""
    return str(error) if error.retry_after is None else f"{error.retry_after} {error}"
