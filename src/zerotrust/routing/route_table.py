"""Route table of one service: the first route that matches a request is chosen.

A table is immutable; a new configuration replaces the whole table. The table knows only conditions;
the caller decides what a route leads to.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

from zerotrust.routing.match import AmbiguousPath, Fields, Match, readings

T = TypeVar("T")


class RouteTable(Generic[T]):
    """Routes in order, and a default for requests that match none of them."""

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
        """Return everything that a lookup may find, in order; the default is last."""
        return (*(chosen for _, chosen in self._rows), self.default)

    def lookup(self, method: bytes, target: bytes, fields: Fields) -> T:
        """Return the target of the first route that matches.

        Raises:
            AmbiguousPath: the routes depend on paths, and backends may read this path in different
                ways.
            AmbiguousQuery: the same of queries.
            PathTooLong, QueryTooLong, TooManyParameters: the routes depend on a path or query that
                is too long.
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
                    raise AmbiguousPath(
                        "the path is ambiguous: its readings match different routes"
                    )
                return chosen
        return self.default
