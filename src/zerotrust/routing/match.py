"""Conditions of routes.

A request must meet all conditions of a route. The conditions are evaluated on the target as the
client sent it, and the target is forwarded byte for byte. Backends read paths in different ways, so
a path has several *readings*. A request whose readings lead to different routes is refused
(`routing.route_table`). The readings are:

* Literal: percent-encoded bytes decoded once (RFC 3986 s6.2.2.2), except `%2F`, which is data and
  not a separator (s2.2); segments unchanged.
* Liberal, as of backends that clean up paths: decoded until nothing changes (some decode twice),
  `\\` replaced by `/`, parameters of segments (`;v=1`, s3.3) removed, empty segments merged.
* Parameters removed before decoding (Tomcat: an encoded slash in a parameter is removed with it),
  or between two decodings.
* Cut at `?` or `#` after decoding, as of backends that build a new target from the decoded path, or
  at the first `;`.
* Without a host name after two slashes or backslashes at the beginning, as of backends that read
  the target as a URL (Node's `new URL`, Python's `urlsplit`, PHP's `parse_url`).
* Without dots and spaces at the end of segments (Windows).
* Without raw bytes 85 and A0 at the end. They are blanks in Latin-1, at which Python's
  `http.server` splits the request line.
* All of these with `%uXXXX` decoded, or with overlong UTF-8, as by some old servers
  (`routing.percent_encoding`). A path with both is refused, and so is one with `%u0100` or above:
  IIS may read such a character as a similar one in ASCII ("best fit").

Most paths have only one reading. Further rules:

* Dot segments are refused in any encoding: browsers and HTTP libraries resolve them before they
  send, and they may lead anywhere in one reading and nowhere in another. So is a path with a
  control character, or one that is still encoded after three rounds.
* Paths are case-sensitive (RFC 3986 s6.2.2.1): `/ADMIN` is not `/admin`. A backend that treats them
  alike needs a route for each spelling, or one for all paths. The same holds for backends that read
  `+` in a path as a space, other Unicode normalization forms of a letter, or an overlong sequence
  whose last byte is ASCII (`%C1%21`).
* `/admin/*` includes `/admin`, because a rule for pages below a page is meant for that page as
  well. An exact `/admin` does not include `/admin/`.
* `*` matches any characters, including `/`, and the empty string.
* Methods are compared in upper case: `get` must not bypass a route for GET, because some backends
  treat it as GET.
* Header names are compared as in CGI and WSGI: `X_Debug` equals `X-Debug`.
* Characters outside ASCII in a pattern stand for their bytes in UTF-8, as browsers send them; bytes
  of a path are the same percent-encoded or not. A path that fits only in Latin-1 is refused.
* A header with several values matches if one of its values matches.
* Queries have readings of their own (`routing.query`).

An agent writes the policy and a stranger sends the request, so neither may decide how long the
server's event loop is busy. Headers and query are parsed once for a request; a value is found by
bisection; each pattern takes time linear in the path; and paths and queries have maximum lengths.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

from zerotrust.errors import ForwardError
from zerotrust.model.fields import folded
from zerotrust.model.service import RouteMatch
from zerotrust.routing.percent_encoding import OTHER_CODES, decode_overlong, decode_wide
from zerotrust.routing.query import AmbiguousQuery, QueryCondition, parameters_of
from zerotrust.routing.value_pattern import ValuePattern

__all__ = [
    "AmbiguousPath",
    "Match",
    "PathTooLong",
    "folded",
    "readings",
    "values_of",
]

MAX_PATH_BYTES: Final = 4096
"""Maximum total length of all readings of a path, if routes or handlers use it. Linux allows no
longer file path, IIS by default no longer URL, and paths of browsers have a few hundred bytes."""

_MAX_DECODINGS: Final = 3
_MAX_OTHER_BYTES: Final = 1024
"""Maximum length of a path with other codes, or with two slashes at its beginning: it is decoded
several times as often."""
_MAX_CACHED_BYTES: Final = 4096

_ODD: Final = re.compile(
    rb"%|;|\\|//|/\.|\./|\.\Z|\x85\Z|\xa0\Z"
    rb"|\xc0|\xc1|\xf8|\xfc|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]"
)
"""Found in each path with several readings. Each alternative begins with one byte, because `re`
skips other bytes quickly then."""
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_SLASH: Final = re.compile(rb"%2[Ff]")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_END: Final = re.compile(rb"[?#].*", re.DOTALL)
_HOST: Final = re.compile(rb"[/\\]{2,}[^/\\]*")
_SLASHES: Final = re.compile(rb"/{2,}")
_BLANKS: Final = b"\x85\xa0"
_DOTS: Final = re.compile(rb"/ *+\.[. ]*+(?:/|\Z)")
"""Windows removes dots and spaces at the end of a segment, so `.. ` and `...` may mean `..` too."""
_TRAILING: Final = re.compile(rb"(?<![. ])[. ]++(?=/|\Z)")
_BEST_FIT: Final = re.compile(rb"%u(?!00)[0-9A-Fa-f]{4}")

Decode = Callable[[bytes], bytes]

_EVERYTHING: Final = ("*", "/*", "")


class AmbiguousPath(ForwardError):  # noqa: N818 - as in zerotrust.errors
    """Servers may read the path in different ways, and the routes depend on paths."""

    code = "ambiguous_path"
    status = 400
    hop = "client"


class PathTooLong(ForwardError):  # noqa: N818 - as in zerotrust.errors
    """The path is longer than routes and handlers compare."""

    code = "path_too_long"
    status = 414
    hop = "client"


def readings(path: bytes) -> tuple[bytes, ...]:
    """Return the readings of a path (without query): one, or the literal one and others.

    Raises:
        AmbiguousPath: the path has dot segments or control characters, or is encoded too often.
        PathTooLong: all readings together are longer than `MAX_PATH_BYTES`, or the path begins with
            two slashes and is longer than `_MAX_OTHER_BYTES`.
    """
    if len(path) > MAX_PATH_BYTES:
        raise PathTooLong(f"the path is longer than {MAX_PATH_BYTES} bytes")
    if _ODD.search(path) is None:
        return (path,)
    found = _decoded(path)
    if path[-1] in _BLANKS:
        found += _decoded(path.rstrip(_BLANKS))
    # A reading may have dot segments only before or only after a backend removes something.
    if any(_DOTS.search(reading) for reading in found):
        raise AmbiguousPath("the path has a segment . or ..; send the resolved path")
    found += [
        _SLASHES.sub(b"/", _TRAILING.sub(b"", reading))
        for reading in found
        if _TRAILING.search(reading) is not None
    ]
    distinct = tuple(dict.fromkeys(found))
    if sum(map(len, distinct)) > MAX_PATH_BYTES:
        raise PathTooLong(
            f"the {len(distinct)} readings of the path are longer than {MAX_PATH_BYTES} bytes"
            " together"
        )
    return distinct


def _decoded(path: bytes) -> list[bytes]:
    stages = _decodings(path, unquote_to_bytes)
    found = _read(stages, unquote_to_bytes)
    if (code := OTHER_CODES.search(stages[-1])) is not None:
        decode = decode_wide if code[0].startswith(b"%") else decode_overlong
        found += _read(_other_decodings(path, decode), decode)
    return found


def _read(stages: list[bytes], decode: Decode) -> list[bytes]:
    """Return the readings of a path by one decoder; `stages` are its `_decodings`."""
    found = _read_below_host(stages, decode)
    for stage in stages:
        if (host := _HOST.match(stage)) is not None:
            if len(stages[0]) > _MAX_OTHER_BYTES:
                raise PathTooLong(
                    f"the path begins with two slashes and has more than {_MAX_OTHER_BYTES} bytes"
                )
            path = stage[host.end() :] or b"/"
            found += _read_below_host(_decodings(path, decode), decode)
    return found


def _read_below_host(stages: list[bytes], decode: Decode) -> list[bytes]:
    path, whole = stages[0], stages[-1]
    if _CONTROL.search(whole) is not None:
        raise AmbiguousPath("the path contains a control character")
    found = [decode(_SLASH.sub(b"%252F", path)), _tidied(whole)]
    if b";" in whole:
        found.append(_tidied(whole.partition(b";")[0]))
        found += [_tidied(_decodings(_PARAMETERS.sub(b"", stage), decode)[-1]) for stage in stages]
    if _END.search(whole) is not None:
        found.append(_tidied(_END.sub(b"", whole)))
    return found


def _tidied(path: bytes) -> bytes:
    return _SLASHES.sub(b"/", _PARAMETERS.sub(b"", path.replace(b"\\", b"/")))


def _decodings(path: bytes, decode: Decode) -> list[bytes]:
    """Return the path as it is, decoded once, and so on until nothing changes."""
    stages = [path]
    while (decoded := decode(stages[-1])) != stages[-1]:
        if len(stages) > _MAX_DECODINGS:
            raise AmbiguousPath(f"the path is percent-encoded more than {_MAX_DECODINGS} times")
        stages.append(decoded)
    return stages


def _other_decodings(path: bytes, decode: Decode) -> list[bytes]:
    """Return the `_decodings` with a code besides percent-encoding."""
    if len(path) > _MAX_OTHER_BYTES:
        raise AmbiguousPath(
            f"the path has %uXXXX or overlong UTF-8 and more than {_MAX_OTHER_BYTES} bytes"
        )
    stages = _decodings(path, decode)
    if any(_BEST_FIT.search(stage) for stage in stages):
        raise AmbiguousPath("the path has %u0100 or above, which servers replace in several ways")
    if OTHER_CODES.search(stages[-1]) is not None:
        raise AmbiguousPath("the path has both %uXXXX and overlong UTF-8")
    return stages


class Fields(Protocol):
    """Header fields of a request, as `zerotrust.http.head` parses them."""

    @property
    def lines(self) -> bytes:
        """Return the forwarded header lines in canonical form."""

    @property
    def host_field(self) -> bytes:
        """Return the value of `Host`."""

    @property
    def upgrade(self) -> bytes | None:
        """Return the value of `Upgrade`, if an upgrade is requested."""


def _values(lines: bytes) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for line in lines.splitlines():
        name, _, value = line.partition(b": ")
        values.setdefault(folded(name), []).append(value)
    return values


_recent_values = lru_cache(maxsize=256)(_values)
"""Cache for clients that send the same headers with every request (as
`zerotrust.http.parse_cache`)."""

_last_values = lru_cache(maxsize=1)(_values)
"""Cache for long heads: only the last one, for all routes and handlers of the same request."""


def values_of(name: bytes, fields: Fields) -> Sequence[bytes]:
    """Return the values of the header `name` (`folded`), including `Host` and `Upgrade`."""
    if name == b"host":
        return [fields.host_field]
    if name == b"upgrade":
        return [fields.upgrade] if fields.upgrade is not None else ()
    lines = fields.lines
    values = _recent_values(lines) if len(lines) <= _MAX_CACHED_BYTES else _last_values(lines)
    return values.get(name, ())


@lru_cache(maxsize=1)
def _repeated(lines: bytes) -> dict[bytes, list[bytes]]:
    """Return the sorted values of headers that occur several times."""
    return {name: sorted(values) for name, values in _values(lines).items() if len(values) > 1}


def _sorted_values(name: bytes, fields: Fields) -> Sequence[bytes]:
    values = values_of(name, fields)
    return values if len(values) < 2 else _repeated(fields.lines)[name]


class Match:
    """Compiled conditions of one route. Immutable.

    Attributes:
        searches: number of pattern pieces that are searched in a path.
        comparisons: number of values that are compared with headers and query.
    """

    __slots__ = ("_fields", "_methods", "_path", "_query", "comparisons", "searches")

    def __init__(self, model: RouteMatch) -> None:
        methods = [model.method] if isinstance(model.method, str) else model.method or []
        self._methods = frozenset(method.upper().encode() for method in methods)
        self._path = None if model.path in _EVERYTHING else _PathPattern(model.path.encode())
        self._fields = [
            (folded(name.encode()), [ValuePattern(value.encode()) for value in values])
            for name, values in model.headers.items()
        ]
        self._query = [QueryCondition(name, value) for name, value in model.query.items()]
        self.searches = self._path.searches if self._path is not None else 0
        self.comparisons = sum(len(patterns) for _, patterns in self._fields) + len(self._query)

    @property
    def everything(self) -> bool:
        """Return True if there is no condition."""
        return not (self._methods or self._fields or self._query or self.by_path)

    @property
    def by_path(self) -> bool:
        """Return True if the path is a condition."""
        return self._path is not None

    def path_fits(self, path: bytes) -> bool:
        """Return True if one reading of the path matches.

        Raises:
            AmbiguousPath: it matches in another encoding than the pattern's.
        """
        return self._path is None or self._path.fits(path)

    def rest_fits(self, method: bytes, target: bytes, fields: Fields) -> bool:
        """Return True if all conditions but the path match.

        Raises:
            AmbiguousQuery: the query is a condition, which only some backends read as met.
            QueryTooLong, TooManyParameters: the query is a condition and is too large.
        """
        if self._methods and method not in self._methods:
            return False
        for field, patterns in self._fields:
            if not _any_fits(_sorted_values(field, fields), patterns):
                return False
        return not self._query or self._query_fits(target)

    def _query_fits(self, target: bytes) -> bool:
        parameters = parameters_of(target)
        found = [condition.fits(parameters) for condition in self._query]
        if False in found:
            return False
        if None in found:
            raise AmbiguousQuery("the query is ambiguous: its readings match different routes")
        return True


class _PathPattern:
    """Pattern of a path; each `*` matches any characters.

    Most patterns are a beginning and an end, which are compared in place. The pieces between them
    are searched from left to right, each at its first position, which leaves the most room for the
    others. A literal regular expression is searched in linear time (Knuth, Morris, Pratt), which
    `bytes.find` does not promise.
    """

    __slots__ = ("_beginning", "_below", "_end", "_other", "_pieces", "_whole")

    def __init__(self, text: bytes) -> None:
        below = b""
        if text.endswith(b"/*"):
            text, below = text[:-2], b"/"
        pieces = [unquote_to_bytes(piece) for piece in text.split(b"*")]
        self._compile(pieces, below)
        self._other: _PathPattern | None = None
        if (recoded := _recoded(pieces)) is not None:
            self._other = _PathPattern(b"")
            self._other._compile(recoded, below)

    def _compile(self, pieces: list[bytes], below: bytes) -> None:
        beginning, *others = pieces
        self._beginning = beginning
        self._below = below
        self._whole = not others
        self._end = others.pop() if others else b""
        self._pieces = [re.compile(re.escape(piece)) for piece in others if piece]
        if self._below and not self._whole:
            self._pieces.append(re.compile(re.escape(self._end) + rb"(?:/|\Z)"))
            self._end = b""

    @property
    def searches(self) -> int:
        """Return the number of pieces that are searched in a path."""
        return len(self._pieces) * (1 if self._other is None else 2)

    def fits(self, path: bytes) -> bool:
        """Return True if one reading of a path matches.

        Raises:
            AmbiguousPath: only the pattern in the other encoding (UTF-8 or Latin-1) matches.
        """
        if self._fits(path):
            return True
        if self._other is not None and self._other._fits(path):
            raise AmbiguousPath("the path is ambiguous: a route names it in another encoding")
        return False

    def _fits(self, path: bytes) -> bool:
        if not path.startswith(self._beginning):
            return False
        place = len(self._beginning)
        if self._whole:
            return len(path) == place or (
                self._below != b"" and path.startswith(self._below, place)
            )
        for piece in self._pieces:
            found = piece.search(path, place)
            if found is None:
                return False
            place = found.end()
        return path.endswith(self._end) and place <= len(path) - len(self._end)


def _recoded(pieces: list[bytes]) -> list[bytes] | None:
    """Return the pieces of a pattern in Latin-1 instead of UTF-8 or the other way round.

    None if there is no other form.
    """
    if all(piece.isascii() for piece in pieces):
        return None
    try:
        texts = [piece.decode() for piece in pieces]
    except UnicodeDecodeError:
        return [piece.decode("latin-1").encode() for piece in pieces]
    with suppress(UnicodeEncodeError):
        return [text.encode("latin-1") for text in texts]
    return None


def _any_fits(values: Sequence[bytes], patterns: Sequence[ValuePattern]) -> bool:
    return any(pattern.fits_any(values) for pattern in patterns)
