"""The routes of one service: what is done with a request, found by the first match.

A table is compiled once and never changed; a new configuration is a new table, put in the place of the old one whole.
What a route leads to is the caller's (the server's handlers): `RouteTable` only chooses.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

from zerotrust.routing.match import AmbiguousPath, Fields, Match, readings

T = TypeVar("T")


class RouteTable(Generic[T]):
    """Routes in order, and what is done with requests that none of them takes."""

    __slots__ = ("_by_path", "_rows", "default")

    def __init__(self, rows: Iterable[tuple[Match, T]], *, default: T) -> None:
        reachable: list[tuple[Match, T]] = []
        self.default = default
        for match, chosen in rows:
            if match.everything:
                self.default = chosen
                break
            reachable.append((match, chosen))
        self._rows = tuple(reachable)
        self._by_path = any(match.by_path for match, _ in reachable)

    @property
    def choices(self) -> tuple[T, ...]:
        """All that a lookup may find, in order; the last is for requests that no condition takes."""
        return (*(chosen for _, chosen in self._rows), self.default)

    def lookup(self, method: bytes, target: bytes, fields: Fields) -> T:
        """Return what the first route that takes the request leads to.

        Raises:
            AmbiguousPath: the routes depend on paths, and backends may disagree on what this one means.
            PathTooLong, TooManyParameters: the routes depend on a path or query that is too large to be compared.
        """
        if not self._rows:
            return self.default
        paths = readings(target.partition(b"?")[0]) if self._by_path else (b"",)
        method = method.upper()
        for match, chosen in self._rows:
            fitting = 0
            for path in paths:
                fitting += match.path_fits(path)
            if fitting and match.rest_fits(method, target, fields):
                if fitting < len(paths):
                    raise AmbiguousPath("the path leads to another route where it is read differently")
                return chosen
        return self.default
