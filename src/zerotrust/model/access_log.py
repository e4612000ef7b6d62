"""Settings of the access log: one line for each request."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from zerotrust.model.base import Model, Share
from zerotrust.model.rates import ByteSize, parse_byte_size

_MIN_FILE: Final = 64 * 1024


def _no_tiny_file(value: str) -> str:
    if 0 < parse_byte_size(value) < _MIN_FILE:
        raise ValueError(f'"{value}" is too small: must be at least 64KiB, or 0 for no rotation')
    return value


class AccessLog(Model):
    """Log of requests: one line for each, when it has ended. Changes need no restart.

    A line has the time, the request's id, host, method, path, status and bytes, the duration and
    its parts, the agent, the upstream, the subject, and the hop that has ended the request.
    """

    output: str | None = None
    """`stdout`, `stderr` or the name of a file. Without it there is no access log."""

    format: Literal["json", "console"] = "json"
    """`json` for programs: one object per line; `console` for people."""

    query: bool = False
    """Write queries, too. They may have passwords, tokens and personal data. Queries of the
    server's own pages are never written."""

    sample: Share = 1.0
    """Share of requests to write: 0.1 is every tenth, by chance. Requests that failed (status 500
    and above, or broken off) are always written."""

    max_size: Annotated[ByteSize, AfterValidator(_no_tiny_file)] = "100MiB"
    """Size at which the file is renamed to `FILE.1`, and a new one begins. `0` never renames it."""

    keep: int = Field(default=5, ge=1, le=1000)
    """Number of renamed files to keep; older ones are deleted."""

    @property
    def max_bytes(self) -> int:
        """Return the bytes of `max_size`."""
        return parse_byte_size(self.max_size)
