"""Which requests a route is for.

All conditions of a match hold at once. The target is read here and forwarded byte for byte, so what is decided on has
to be what the backend will understand, and backends differ. Therefore a path has several *readings*, and a request
whose readings lead to different routes is refused (`routing.route_table`). They are:

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

A policy is an agent's and a request is a stranger's, so neither may decide how long the server's loop is busy with the
two. Fields and query are parsed once for a request, however many routes look at them; a value is found by bisection;
each pattern of a path takes time that is linear in the path; and paths and queries have bounds.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

from zerotrust.errors import ForwardError
from zerotrust.model.fields import folded
from zerotrust.model.service import RouteMatch

__all__ = [
    "AmbiguousPath",
    "Match",
    "PathTooLong",
    "TooManyParameters",
    "folded",
    "parameters_of",
    "readings",
    "values_of",
]

MAX_PATH_BYTES: Final = 4096
"""Of all readings of a path together, where routes or handlers look at it. Linux takes no longer path of a file, IIS by
default no longer URL, and browsers' honest paths have a few hundred bytes; what is long is the query."""

MAX_PARAMETERS: Final = 256
"""Of a query that routes or handlers look at: as many as a head may have fields. A parameter takes 3 µs to decode."""

_ROUNDS: Final = 3
_LONGEST_KEPT: Final = 4096

_ODD: Final = re.compile(rb"[%;\\]|//|/\.")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_SLASH: Final = re.compile(rb"%2[Ff]")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_END: Final = re.compile(rb"[?#].*", re.DOTALL)
_SLASHES: Final = re.compile(rb"/{2,}")
_DOTS: Final = re.compile(rb"/ *+\.[. ]*+(?:/|\Z)")
"""Windows cuts dots and blanks off the end of a segment, so `.. ` and `...` may be `..` too."""
_OTHER_CODES: Final = re.compile(rb"%u[0-9A-Fa-f]{4}|[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]")
"""Codes of IIS, and UTF-8 that is longer than it has to be (RFC 3629 s10): some old servers decode both."""

_EVERYTHING: Final = ("*", "/*", "")


class AmbiguousPath(ForwardError):  # noqa: N818 - as in zerotrust.errors
    """The path means different things to different servers, and the service's routes differ by paths."""

    code = "ambiguous_path"
    status = 400
    hop = "client"


class PathTooLong(ForwardError):  # noqa: N818 - as in zerotrust.errors
    """The path is longer than routes and handlers compare."""

    code = "path_too_long"
    status = 414
    hop = "client"


class TooManyParameters(ForwardError):  # noqa: N818 - as in zerotrust.errors
    """The request has more parameters than routes and handlers look at."""

    code = "too_many_parameters"
    status = 400
    hop = "client"


def readings(path: bytes) -> tuple[bytes, ...]:
    """Return the path (without query) as backends may understand it: one reading, or the literal one and others.

    Raises:
        AmbiguousPath: it has dot segments, control characters, or is encoded too often.
        PathTooLong: its readings together are longer than `MAX_PATH_BYTES`.
    """
    if len(path) > MAX_PATH_BYTES:
        raise PathTooLong(f"the path is longer than {MAX_PATH_BYTES} bytes")
    if _ODD.search(path) is None:
        return (path,)
    stages = _decodings(path)
    whole = stages[-1]
    if _CONTROL.search(whole) is not None:
        raise AmbiguousPath("the path holds a control character")
    if _OTHER_CODES.search(whole) is not None:
        raise AmbiguousPath("the path holds %uXXXX or overlong UTF-8, which only some servers decode")
    found = [unquote_to_bytes(_SLASH.sub(b"%252F", path)), _tidied(whole)]
    if b";" in whole:
        found += [_tidied(_decodings(_PARAMETERS.sub(b"", stage))[-1]) for stage in stages]
    if _END.search(whole) is not None:
        found.append(_tidied(_END.sub(b"", whole)))
    # Of these, one is refused for what a backend might cut off first, another for what it might not.
    if any(_DOTS.search(reading) for reading in found):
        raise AmbiguousPath("the path has . or .. as a segment; the client should have resolved it")
    distinct = tuple(dict.fromkeys(found))
    if sum(map(len, distinct)) > MAX_PATH_BYTES:
        raise PathTooLong(f"the path can be read in {len(distinct)} ways, together longer than {MAX_PATH_BYTES} bytes")
    return distinct


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


def _values(lines: bytes) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for line in lines.splitlines():
        name, _, value = line.partition(b": ")
        values.setdefault(folded(name), []).append(value)
    return values


_recent_values = lru_cache(maxsize=256)(_values)
"""A client sends the same fields with each of its requests (as in `zerotrust.http.parse_cache`)."""

_last_values = lru_cache(maxsize=1)(_values)
"""Of a longer head only the last is kept: all routes and handlers that look at it do so in one turn of the loop."""


def values_of(name: bytes, fields: Fields) -> Sequence[bytes]:
    """Return the values of the field `name` (`folded`) as the client sent them, Host and Upgrade included."""
    if name == b"host":
        return [fields.host_field]
    if name == b"upgrade":
        return [fields.upgrade] if fields.upgrade is not None else ()
    lines = fields.lines
    values = _recent_values(lines) if len(lines) <= _LONGEST_KEPT else _last_values(lines)
    return values.get(name, ())


@lru_cache(maxsize=1)
def _repeated(lines: bytes) -> dict[bytes, list[bytes]]:
    """The values, in order of size, of fields that are there several times."""
    return {name: sorted(values) for name, values in _values(lines).items() if len(values) > 1}


def _sorted_values(name: bytes, fields: Fields) -> Sequence[bytes]:
    values = values_of(name, fields)
    return values if len(values) < 2 else _repeated(fields.lines)[name]


@lru_cache(maxsize=1)
def parameters_of(target: bytes) -> dict[str, list[bytes]]:
    """Return the parameters of a target's query, decoded once, each with its values in order of size.

    It is kept for the others that look at the same request, so do not change it.

    Raises:
        TooManyParameters: there are more than `MAX_PARAMETERS`.
    """
    query = target.partition(b"?")[2]
    if query.count(b"&") >= MAX_PARAMETERS:
        raise TooManyParameters(f"the query has more than {MAX_PARAMETERS} parameters")
    values: dict[str, list[bytes]] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        values.setdefault(name, []).append(value.encode())
    for several in values.values():
        several.sort()
    return values


class Match:
    """The conditions of one route, compiled. Immutable.

    Attributes:
        searches: for how many pieces of its pattern a path is searched.
        comparisons: how many values are looked up in fields and query.
    """

    __slots__ = ("_fields", "_methods", "_path", "_query", "comparisons", "searches")

    def __init__(self, model: RouteMatch) -> None:
        methods = [model.method] if isinstance(model.method, str) else model.method or []
        self._methods = frozenset(method.upper().encode() for method in methods)
        self._path = None if model.path in _EVERYTHING else _PathPattern(model.path.encode())
        self._fields = [
            (folded(name.encode()), [_ValuePattern(value.encode()) for value in values])
            for name, values in model.headers.items()
        ]
        self._query = [(name, [_ValuePattern(value.encode())]) for name, value in model.query.items()]
        self.searches = self._path.searches if self._path is not None else 0
        self.comparisons = sum(len(patterns) for _, patterns in self._fields) + len(self._query)

    @property
    def everything(self) -> bool:
        """True where there is no condition."""
        return not (self._methods or self._fields or self._query or self.by_path)

    @property
    def by_path(self) -> bool:
        """True where the path is one of the conditions."""
        return self._path is not None

    def path_fits(self, path: bytes) -> bool:
        """Whether one reading of the path fits."""
        return self._path is None or self._path.fits(path)

    def rest_fits(self, method: bytes, target: bytes, fields: Fields) -> bool:
        """Return whether everything but the path fits.

        Raises:
            TooManyParameters: the query is one of the conditions.
        """
        if self._methods and method not in self._methods:
            return False
        for field, patterns in self._fields:
            if not _any_fits(_sorted_values(field, fields), patterns):
                return False
        if self._query:
            parameters = parameters_of(target)
            for name, patterns in self._query:
                if not _any_fits(parameters.get(name, ()), patterns):
                    return False
        return True


class _PathPattern:
    """A path in which each `*` stands for any characters.

    Most patterns are a beginning and an end, which are compared where they have to be. For the pieces between them the
    path is searched once, from left to right: each is taken at its first place, which leaves the most to those behind
    it. A regular expression that is a literal is searched for in linear time (Knuth, Morris, Pratt), which
    `bytes.find` does not promise.
    """

    __slots__ = ("_beginning", "_below", "_end", "_pieces", "_whole")

    def __init__(self, text: bytes) -> None:
        self._below = b""
        if text.endswith(b"/*"):
            text, self._below = text[:-2], b"/"
        beginning, *others = [unquote_to_bytes(piece) for piece in text.split(b"*")]
        self._beginning = beginning
        self._whole = not others
        self._end = others.pop() if others else b""
        self._pieces = [re.compile(re.escape(piece)) for piece in others if piece]
        if self._below and not self._whole:
            self._pieces.append(re.compile(re.escape(self._end) + rb"(?:/|\Z)"))
            self._end = b""

    @property
    def searches(self) -> int:
        """The number of pieces for which a path is searched."""
        return len(self._pieces)

    def fits(self, path: bytes) -> bool:
        """Return whether one reading of a path fits."""
        if not path.startswith(self._beginning):
            return False
        place = len(self._beginning)
        if self._whole:
            return len(path) == place or (self._below != b"" and path.startswith(self._below, place))
        for piece in self._pieces:
            found = piece.search(path, place)
            if found is None:
                return False
            place = found.end()
        return path.endswith(self._end) and place <= len(path) - len(self._end)


class _ValuePattern:
    """A value as it stands in a condition: `v` is that value, `v*` one that begins so."""

    __slots__ = ("_beginning", "_text")

    def __init__(self, text: bytes) -> None:
        self._beginning = text.endswith(b"*")
        self._text = text[:-1] if self._beginning else text

    def fits(self, values: Sequence[bytes]) -> bool:
        """Return whether it is the pattern of one of the values, which are in order of size."""
        place = bisect_left(values, self._text)
        if place == len(values):
            return False
        return values[place].startswith(self._text) if self._beginning else values[place] == self._text


def _any_fits(values: Sequence[bytes], patterns: Sequence[_ValuePattern]) -> bool:
    return any(pattern.fits(values) for pattern in patterns)
