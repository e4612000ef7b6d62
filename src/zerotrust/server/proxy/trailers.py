"""Filter of trailer fields: lets pass well-known ones and those that `api.pass_trailers` names."""

from collections.abc import Sequence
from typing import Final, Literal

from zerotrust.http.head_block import filter_trailers
from zerotrust.http.headers import folded
from zerotrust.middleware.header_edits import Edit
from zerotrust.telemetry import logs

_log = logs.logger("trailers")

MAX_REPORTED: Final = 10_000
"""Host names for which dropped trailers are logged, in each direction: as many as one agent may
have services."""
MAX_NAMES: Final = 8
MAX_NAME_BYTES: Final = 64
"""A log line has the first few names of dropped fields, cut: clients choose them, up to 8 KiB."""


class TrailerFilter:
    """Drops trailer fields that may not pass; logs that once for each service and direction.

    Args:
        passed: the configuration's `api.pass_trailers`.
    """

    __slots__ = ("_passed", "_reported")

    def __init__(self, passed: Sequence[str] = ()) -> None:
        self._passed = frozenset(folded(name.encode()) for name in passed)
        self._reported: set[tuple[str, str]] = set()

    def apply(
        self, block: bytes, edits: Sequence[Edit], *, host: str, of: Literal["request", "answer"]
    ) -> bytes:
        """Return the lines of a trailer block that pass, after a head with these `edits`."""
        kept, dropped = filter_trailers(
            block, passed=self._passed, edited={edit.name for edit in edits}
        )
        if dropped and (host, of) not in self._reported and len(self._reported) < 2 * MAX_REPORTED:
            self._reported.add((host, of))
            names = [name[:MAX_NAME_BYTES].decode("ascii") for name in dropped[:MAX_NAMES]]
            hint = (
                "add the names that the application needs to api.pass_trailers in the server's file"
            )
            _log.info("trailer fields dropped", host=host, of=of, fields=names, hint=hint)
        return kept
