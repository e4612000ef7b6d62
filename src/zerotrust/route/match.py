"""Which requests a route is for.

All conditions of a match hold at once. The target is read here and forwarded byte for byte, so what is decided on has
to be what the backend will understand, and backends differ. Therefore a path has several *readings*, and a request
whose readings lead to different routes is refused (`route.table`). They are:

* the literal one: percent-encoded bytes decoded once (RFC 3986 s6.2.2.2), except `%2F`, which is data and no separator
  (s2.2); segments as they are.
* the liberal one, of every backend that tidies up: decoded until nothing changes (some decode twice), `\\` taken for
  `/`, parameters of segments (`;v=1`, s3.3) cut off, empty segments merged.
* those of backends that cut parameters off earlier: before they decode (Tomcat: an encoded slash in a parameter goes
  with it), or between two decodings.
* that of backends that make a target of the decoded path again: it ends at `?` or `#`.

Most paths have only one. Further decisions:

* Dot segments, in any encoding, are refused: every browser and HTTP library resolves them before it sends, and with
  them a path may lead anywhere in one reading and nowhere in the other. So is a path with a control character, and one
  that is still encoded after three rounds.
* Letters in paths are case-sensitive (RFC 3986 s6.2.2.1): `/ADMIN` is not `/admin`. A backend that takes them for the
  same needs a route for each spelling, or one for everything.
* `/admin/*` is for `/admin` too: who protects what is below a page means the page as well. An exact `/admin` is not for
  `/admin/`.
* A `*` stands for any characters, `/` among them, and for none.
* Methods are compared in capitals: `get` must not slip past a route for GET to a backend that takes it for one.
* Names of fields are compared as CGI and WSGI do, `X_Debug` like `X-Debug`: who means one must not miss the other.
* A field or query parameter that is there several times matches if one of its values does.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

from zerotrust.errors import ForwardError
from zerotrust.model.service import RouteMatch

_ROUNDS: Final = 3
_LONGEST_KEPT: Final = 4096

_ODD: Final = re.compile(rb"[%;\\]|//|/\.")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_SLASH: Final = re.compile(rb"%2[Ff]")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_END: Final = re.compile(rb"[?#].*", re.DOTALL)
_SLASHES: Final = re.compile(rb"/{2,}")
_DOTS: Final = re.compile(rb"/\.\.?(?:/|\Z)")

_EVERYTHING: Final = ("*", "/*", "")


class AmbiguousPath(ForwardError):  # noqa: N818 - as in zerotrust.errors
    """The path means different things to different servers, and the service's routes differ by paths."""

    code = "ambiguous_path"
    status = 400
    hop = "client"


def readings(path: bytes) -> tuple[bytes, ...]:
    """The path (without query) as backends may understand it: one reading, or the literal one and others.

    Raises:
        AmbiguousPath: it has dot segments, control characters, or is encoded too often.
    """
    if _ODD.search(path) is None:
        return (path,)
    stages = _decodings(path)
    whole = stages[-1]
    if _CONTROL.search(whole) is not None:
        raise AmbiguousPath("the path holds a control character")
    found = [unquote_to_bytes(_SLASH.sub(b"%252F", path)), _tidied(whole)]
    if b";" in whole:
        found += [_tidied(_decodings(_PARAMETERS.sub(b"", stage))[-1]) for stage in stages]
    if _END.search(whole) is not None:
        found.append(_tidied(_END.sub(b"", whole)))
    # Of these, one is refused for what a backend might cut off first, another for what it might not.
    if any(_DOTS.search(reading) for reading in found):
        raise AmbiguousPath("the path has . or .. as a segment; the client should have resolved it")
    return tuple(dict.fromkeys(found))


def _tidied(path: bytes) -> bytes:
    return _SLASHES.sub(b"/", _PARAMETERS.sub(b"", path.replace(b"\\", b"/")))


def _decodings(path: bytes) -> list[bytes]:
    """The path as it is, decoded once, and so on until nothing changes."""
    stages = [path]
    while (decoded := unquote_to_bytes(stages[-1])) != stages[-1]:
        if len(stages) > _ROUNDS:
            raise AmbiguousPath("the path is percent-encoded again and again")
        stages.append(decoded)
    return stages


class Fields(Protocol):
    """The fields of a request, as `zerotrust.http.head` reads them."""

    @property
    def lines(self) -> bytes:
        """Canonical lines of all fields that travel as they are."""

    @property
    def host_field(self) -> bytes:
        """The value of Host."""

    @property
    def upgrade(self) -> bytes | None:
        """The value of Upgrade, where it is asked for."""


def folded(name: bytes) -> bytes:
    """The name of a field as gateways to other programs compare it (RFC 3875 s4.1.18): without case, `_` like `-`."""
    return name.lower().replace(b"_", b"-")


def _values(lines: bytes) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for line in lines.splitlines():
        name, _, value = line.partition(b": ")
        values.setdefault(folded(name), []).append(value)
    return values


_recent_values = lru_cache(maxsize=256)(_values)
"""A client sends the same fields with each of its requests (as in `zerotrust.http.recent`)."""


def values_of(name: bytes, fields: Fields) -> Sequence[bytes]:
    """The values of the field `name` (`folded`) as the client sent them, Host and Upgrade included."""
    if name == b"host":
        return [fields.host_field]
    if name == b"upgrade":
        return [fields.upgrade] if fields.upgrade is not None else ()
    lines = fields.lines
    values = _recent_values(lines) if len(lines) <= _LONGEST_KEPT else _values(lines)
    return values.get(name, ())


class Match:
    """The conditions of one route, compiled. Immutable."""

    __slots__ = ("_fields", "_methods", "_path", "_query")

    def __init__(self, model: RouteMatch) -> None:
        methods = [model.method] if isinstance(model.method, str) else model.method or []
        self._methods = frozenset(method.upper().encode() for method in methods)
        self._path = None if model.path in _EVERYTHING else _path_pattern(model.path.encode())
        self._fields = [
            (folded(name.encode()), [_value_pattern(value.encode()) for value in values])
            for name, values in model.headers.items()
        ]
        self._query = [(name, _value_pattern(value.encode())) for name, value in model.query.items()]

    @property
    def everything(self) -> bool:
        """True where there is no condition."""
        return not (self._methods or self._path or self._fields or self._query)

    @property
    def by_path(self) -> bool:
        """True where the path is one of the conditions."""
        return self._path is not None

    def path_fits(self, path: bytes) -> bool:
        """Whether one reading of the path fits."""
        return self._path is None or self._path.fullmatch(path) is not None

    def rest_fits(self, method: bytes, query: bytes, fields: Fields) -> bool:
        """Whether everything but the path fits."""
        if self._methods and method.upper() not in self._methods:
            return False
        for name, patterns in self._fields:
            values = values_of(name, fields)
            if not any(fits(value) for value in values for fits in patterns):
                return False
        return not self._query or self._query_fits(query)

    def _query_fits(self, query: bytes) -> bool:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        return all(any(fits(value.encode()) for found, value in pairs if found == name) for name, fits in self._query)


def _path_pattern(text: bytes) -> "re.Pattern[bytes]":
    body, tail = text, b""
    if text.endswith(b"/*"):
        body, tail = text[:-2], rb"(?:/.*)?+"
    elif text.endswith(b"*"):
        body, tail = text[:-1], rb".*+"
    first, *pieces = [re.escape(unquote_to_bytes(piece)) for piece in body.split(b"*")]
    # Each piece but the last is taken at its first place for good (an atomic group): that leaves the most to the pieces
    # behind it, so nothing is missed, and a hostile path costs linear time.
    middle = b"".join(rb"(?>.*?%b)" % piece for piece in pieces[:-1])
    last = rb".*%b" % pieces[-1] if pieces else b""
    return re.compile(first + middle + last + tail, re.DOTALL)


def _value_pattern(text: bytes) -> Callable[[bytes], object]:
    if text == b"*":
        return _present
    if text.endswith(b"*"):
        return re.compile(re.escape(text[:-1]) + rb".*", re.DOTALL).fullmatch
    return text.__eq__


def _present(value: bytes) -> bool:
    return True
