"""How a request's failure crosses the tunnel: an error of `zerotrust.errors` on each side, a code between them."""

from typing import Final

from zerotrust import errors
from zerotrust.tunnel.codes import Code

_ERRORS: Final[dict[Code, type[errors.ForwardError]]] = {
    Code.REFUSED: errors.Overloaded,
    Code.UNKNOWN_SERVICE: errors.ServiceGone,
    Code.UPSTREAM_UNREACHABLE: errors.UpstreamUnreachable,
    Code.UPSTREAM_TIMEOUT: errors.UpstreamTimeout,
    Code.UPSTREAM_FAILED: errors.UpstreamFailed,
    Code.OVERLOADED: errors.Overloaded,
}
_CODES: Final = {error: code for code, error in _ERRORS.items() if code is not Code.REFUSED}


def error_for(code: Code, reason: str) -> errors.ForwardError:
    """What a RESET means for the request. The peer's words are for the log; the class decides what the client hears."""
    return _ERRORS.get(code, errors.AgentLost)(reason or code.name)


def code_for(error: errors.ForwardError) -> Code:
    """The code with which a failure is reported to the other end."""
    return _CODES.get(type(error), Code.INTERNAL)
