"""The part of a host name that a share link opens: paths below a prefix, with some methods."""

from functools import lru_cache

from zerotrust.access.conditions import AMBIGUOUS
from zerotrust.access.gate_request import GateRequest
from zerotrust.access.subject import Credential
from zerotrust.errors import AccessError, ForwardError
from zerotrust.routing.match import AmbiguousPath, readings


def check_prefix(path: str) -> bytes:
    """Return the one reading of a link's path, without slash at its end.

    Raises:
        AccessError: backends may read the path in several ways, or it is no path.
    """
    if not path.startswith("/") or not path.isascii() or "?" in path or "#" in path:
        raise AccessError(f'"{path[:80]}" is not a path: write it as in /album/7')
    try:
        prefix, *others = readings(path.encode("ascii"))
    except ForwardError as error:
        raise AccessError(f'"{path[:80]}" cannot be shared: {error}') from None
    if others:
        raise AccessError(
            f'"{path[:80]}" cannot be shared: programs may read it in several ways; share the'
            " folder above it"
        )
    return prefix.rstrip(b"/")


_recent_prefix = lru_cache(maxsize=4096)(check_prefix)


def in_scope(credential: Credential, request: GateRequest) -> bool:
    """Return True if a link's pass opens this path with this method.

    Raises:
        AmbiguousPath: only some backends would read the path as one below the prefix.
        PathTooLong: the path is too long to judge.
    """
    if credential.methods and request.method.upper().decode("latin-1") not in credential.methods:
        return False
    if not credential.path:
        return True
    try:
        prefix = _recent_prefix(credential.path)
    except AccessError:
        return False
    paths = request.readings
    inside = sum(path == prefix or path.startswith(prefix + b"/") for path in paths)
    if 0 < inside < len(paths):
        raise AmbiguousPath(AMBIGUOUS)
    return inside > 0
