"""Conditions on the query of a request, in each way in which backends may read it.

The usual backend splits the query at `&`, compares names exactly, reads `+` as a space, decodes
once, and takes the first or the last of several values. Others differ:

* `;` separates parameters as well (HTML 4 appendix B.2.2).
* Names are compared in any case (ASP.NET). `a[]`, `a[0]` and `a[b]` are values of `a`; spaces, dots
  and brackets are underscores; a name ends at a null byte (PHP). `[a]` and `a]` are `a` (Rack).
* Parameters with `;` or an invalid escape are left out (Go).
* A value ends at a null byte.
* `+` is itself (RFC 3986 s2.2).
* Names and values are decoded twice.
* All values of a name are joined by commas (ASP).
* A target that is built anew from the decoded path has its query after the `%3F` of that path, or
  after the first `&` if the path is put into a query (mod_rewrite).
* The query ends before raw bytes 85 and A0 at its end, as paths do (`zerotrust.routing.match`).

A condition is met if it is met in each of these readings, and not met if it is met in none. Between
the two it depends on the backend, and the request is refused. So is one where `%uXXXX` or overlong
UTF-8 (`zerotrust.routing.percent_encoding`) may decide.

Characters outside ASCII in a condition stand for their bytes in UTF-8. Where only their bytes in
Latin-1 fit, the request is refused, too.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from zerotrust.errors import ForwardError
from zerotrust.routing.percent_encoding import OTHER_CODES
from zerotrust.routing.value_pattern import ValuePattern

MAX_PARAMETERS: Final = 256
"""Maximum parameters in all readings together, if routes or handlers use the query: as many as a
head may have headers."""

MAX_QUERY_BYTES: Final = 8192
"""Maximum length of a query that routes or handlers use. Apache and nginx by default accept no
longer request line. All readings together may have twice as many."""

_PLAIN_NAME: Final = re.compile(rb"[0-9A-Za-z_-]*+")
_ENCODED: Final = re.compile(rb"[%+]")
_PLUS: Final = b"\xff"
"""Stands for `+` while a text is decoded. No condition has this byte in UTF-8."""
_PART_OF_QUERY: Final = re.compile(rb"%(?:25)*(?:3[Ff]|26)|&")
_INVALID_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BLANKS: Final = (b"\x85", b"\xa0")
_BETWEEN_BRACKETS: Final = re.compile(rb"[^\[\]\x00]+")
_UNDERSCORES: Final = bytes.maketrans(b" .[", b"___")

Pair = tuple[int, tuple[bytes, ...], bytes]


class AmbiguousQuery(ForwardError):  # noqa: N818 - as in zerotrust.errors
    """Servers may read the query in different ways, and the routes depend on the query."""

    code = "ambiguous_query"
    status = 400
    hop = "client"


class TooManyParameters(ForwardError):  # noqa: N818 - as in zerotrust.errors
    """The request has more parameters than routes and handlers compare."""

    code = "too_many_parameters"
    status = 400
    hop = "client"


class QueryTooLong(ForwardError):  # noqa: N818 - as in zerotrust.errors
    """The query is longer than routes and handlers compare."""

    code = "query_too_long"
    status = 414
    hop = "client"


class Parameter:
    """Values of one parameter in all readings of a query.

    Args:
        pairs: for each occurrence its reading, all that its name may be, and its value as written.

    Attributes:
        values: the values, sorted.
        certain: the readings that have a value under a name without doubt, by that name.
        is_repeated: one reading has several values.
        is_unclear: a value has a code that only some servers decode.
    """

    __slots__ = ("certain", "is_repeated", "is_unclear", "values")

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.values: list[bytes] = []
        self.certain: dict[bytes, set[int]] = {}
        self.is_unclear = False
        for reading, names, written in pairs:
            values = _texts(written)
            self.values.extend(values)
            is_left_out = b";" in written
            if b"%" in written:
                self.values += [text.partition(b"\0")[0] for text in values if b"\0" in text]
                is_left_out = is_left_out or _INVALID_ESCAPE.search(written) is not None
            self.is_unclear = self.is_unclear or _is_unclear(values)
            if len(names) == 1 and not is_left_out:
                self.certain.setdefault(names[0], set()).add(reading)
        self.values.sort()
        self.is_repeated = len({reading for reading, _, _ in pairs}) < len(pairs)


class QueryParameters:
    """Parameters of a query in all its readings.

    Attributes:
        count: number of readings.
        is_unclear: a name has a code that only some servers decode.
    """

    __slots__ = ("_bytes", "_found", "_pairs", "_parameters", "count", "is_unclear")

    def __init__(self, target: bytes) -> None:
        """Read the query of a target.

        Raises:
            QueryTooLong: it has more than `MAX_QUERY_BYTES`, or its readings more than twice that.
            TooManyParameters: its readings have more than `MAX_PARAMETERS`.
        """
        self._pairs: dict[bytes, list[Pair]] = {}
        self._found: dict[bytes, Parameter] = {}
        self._bytes = 0
        self._parameters = 0
        self.count = 0
        self.is_unclear = False
        self._read_target(target)
        if target.endswith(_BLANKS):
            self._read_target(target.rstrip(b"\x85\xa0"))

    def get(self, key: bytes) -> Parameter | None:
        """Return the parameter that some backend may read under a name (`folded_name`)."""
        found = self._found.get(key)
        if found is None and key in self._pairs:
            # Most parameters are in no condition, and their values need no decoding.
            found = self._found[key] = Parameter(self._pairs[key])
        return found

    def is_certain(self, name: bytes, parameter: Parameter) -> bool:
        """Return True if the parameter is exactly under this name in all readings."""
        return len(parameter.certain.get(name, ())) == self.count

    def only_value(self, name: str) -> bytes:
        """Return the value that all backends read under a name; empty if they may differ."""
        parameter = self.get(folded_name(name.encode()))
        if parameter is None or self.is_unclear or not self.is_certain(name.encode(), parameter):
            return b""
        found = {value for value in parameter.values if value}
        return found.pop() if len(found) == 1 else b""

    def _read_target(self, target: bytes) -> None:
        path, question, query = target.partition(b"?")
        self._read(query)
        if _PART_OF_QUERY.search(path) is not None:
            for text in _texts(path):
                if b"?" in text:
                    self._read(text.partition(b"?")[2] + question + query)
                if b"&" in text:
                    self._read(text.partition(b"&")[2] + b"&" + query)

    def _read(self, query: bytes) -> None:
        if len(query) > MAX_QUERY_BYTES:
            raise QueryTooLong(f"the query is longer than {MAX_QUERY_BYTES} bytes")
        self._add(query)
        if b";" in query:
            self._add(query.replace(b";", b"&"))

    def _add(self, query: bytes) -> None:
        """Add one reading."""
        self.count += 1
        self._bytes += len(query)
        if self._bytes > 2 * MAX_QUERY_BYTES:
            raise QueryTooLong(
                f"the query is longer than {2 * MAX_QUERY_BYTES} bytes in all its readings"
            )
        self._parameters += query.count(b"&") + 1
        if self._parameters > MAX_PARAMETERS:
            raise TooManyParameters(
                f"the query has more than {MAX_PARAMETERS} parameters in all its readings"
            )
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            if _PLAIN_NAME.fullmatch(name) is not None:
                found = (self.count, (name,), value)
                self._pairs.setdefault(name.lower(), []).append(found)
            else:
                self._add_odd(name, value)

    def _add_odd(self, written: bytes, value: bytes) -> None:
        names = _texts(written)
        self.is_unclear = self.is_unclear or _is_unclear(names)
        for key in {key for name in names for key in _keys(name)}:
            self._pairs.setdefault(key, []).append((self.count, names, value))


@lru_cache(maxsize=1)
def parameters_of(target: bytes) -> QueryParameters:
    """Return the parameters of a target's query, for all routes and handlers of a request.

    Raises:
        QueryTooLong, TooManyParameters: the query is too large.
    """
    return QueryParameters(target)


class QueryCondition:
    """Condition on one parameter of the query: its name, and the pattern of its value."""

    __slots__ = ("_keys", "_name", "_patterns")

    def __init__(self, name: str, value: str) -> None:
        self._name = name.encode()
        self._keys = [folded_name(text) for text in _encodings(name)]
        self._patterns = [ValuePattern(text) for text in _encodings(value)]

    def fits(self, parameters: QueryParameters) -> bool | None:
        """Return True if the condition is met in each reading; None if it depends on the backend.

        Of the names and patterns, the first is in UTF-8, and only this one may be met.
        """
        if parameters.is_unclear:
            return None
        found = [parameters.get(key) for key in self._keys]
        if not any(map(self._may_fit, found)):
            return False
        return self._must_fit(found[0], parameters) or None

    def _may_fit(self, parameter: Parameter | None) -> bool:
        return parameter is not None and (
            parameter.is_unclear
            or any(pattern.fits_any(parameter.values) for pattern in self._patterns)
            or (parameter.is_repeated and b"," in self._patterns[0].text)
        )

    def _must_fit(self, parameter: Parameter | None, parameters: QueryParameters) -> bool:
        pattern = self._patterns[0]
        return (
            parameter is not None
            and parameters.is_certain(self._name, parameter)
            and pattern.fits_all(parameter.values)
            and not (parameter.is_unclear and pattern.text)
            and not (parameter.is_repeated and not pattern.is_beginning)  # they may be joined
        )


def folded_name(name: bytes) -> bytes:
    """Return the name of a parameter in the one form in which all backends may compare it."""
    return _folded(b"_".join(_BETWEEN_BRACKETS.findall(name)))


def _keys(name: bytes) -> set[bytes]:
    if (first := _BETWEEN_BRACKETS.search(name)) is None:
        return {b""}
    if first[0] == name:
        return {_folded(name)}
    return {folded_name(name), _folded(first[0]), _folded(name.partition(b"\0")[0])}


def _folded(name: bytes) -> bytes:
    text = name.strip(b" ").translate(_UNDERSCORES)
    return text.decode("utf-8", "surrogateescape").casefold().encode("utf-8", "surrogateescape")


def _texts(written: bytes) -> tuple[bytes, ...]:
    """Return what backends may decode from a name or value: once, twice, `+` as a space or not."""
    if _ENCODED.search(written) is None:
        return (written,)
    if b"+" not in written:
        once = unquote_to_bytes(written)
        twice = unquote_to_bytes(once) if b"%" in once else once
        return (once,) if twice == once else (once, twice)
    texts = _texts(written.replace(b"+", _PLUS))
    return (
        *[text.replace(_PLUS, b" ") for text in texts],
        *[text.replace(_PLUS, b"+") for text in texts],
    )


def _is_unclear(texts: tuple[bytes, ...]) -> bool:
    last = texts[-1]  # decoding keeps the other codes
    return (b"%" in last or not last.isascii()) and OTHER_CODES.search(last) is not None


def _encodings(text: str) -> list[bytes]:
    """Return a text in UTF-8, and in Latin-1 if that is different."""
    found = [text.encode()]
    if not text.isascii():
        with suppress(UnicodeEncodeError):
            found.append(text.encode("latin-1"))
    return found
