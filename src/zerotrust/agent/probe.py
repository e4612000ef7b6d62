"""Active health checks: one request, or one TCP connection, to one upstream.

Each check opens a new connection, so its result is that of a new client.
"""

import asyncio
from collections.abc import Callable

from zerotrust.agent.upstreams import UpstreamHandle
from zerotrust.balancing.active_health import is_expected
from zerotrust.errors import ForwardError
from zerotrust.http.body import Kind
from zerotrust.http.head import ResponseHead
from zerotrust.model.upstream import HealthCheck
from zerotrust.net.channel import Chunk
from zerotrust.net.http_client import BackendConnection

Report = Callable[[str], None]
"""Takes the result of a check: the reason of its failure, or an empty string."""


class Probe:
    """One running check (net.http_client.ConnectionSink, ResponseSink).

    Args:
        host: the Host of requests to this upstream.
        report: called exactly once.
    """

    def __init__(
        self, upstream: UpstreamHandle, check: HealthCheck, *, host: str, report: Report
    ) -> None:
        self._check = check
        self._host = host
        self._report: Report | None = report
        self._connection: BackendConnection | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(
            check.timeout, self._end, f"no answer within {check.timeout:g} s"
        )
        self._pool = upstream.pool
        self._pool.dial(self, probe=True)

    # ---- net.http_client.ConnectionSink

    def connected(self, connection: BackendConnection) -> None:
        """Send the request, unless the check has timed out."""
        if self._report is None:
            connection.close()
        elif self._check.type == "tcp":
            connection.close()
            self._end("")
        else:
            self._connection = connection
            connection.begin(self, self._check.method.encode())
            connection.send(self._request())

    def unreachable(self, error: ForwardError) -> None:
        """Report that the connection could not be opened."""
        self._end(str(error))

    # ---- net.http_client.ResponseSink

    def response_interim(self, head: ResponseHead) -> None:
        """Wait for the final answer."""

    def response(self, head: ResponseHead, framing: tuple[Kind, int]) -> None:
        """Compare the status; redirects are not followed, and the body is not read."""
        expected = is_expected(head.status, self._check.expected_status)
        self._end("" if expected else f"answered {head.status}")

    def body(self, data: bytes, *, end: bool) -> None:
        """Not read."""

    def body_trailers(self, fields: bytes) -> None:
        """Not read."""

    def failed(self, error: ForwardError, *, untouched: bool, unsent: list[Chunk]) -> None:
        """Report that the connection broke."""
        self._connection = None
        self._end(str(error))

    def drained(self) -> None:
        """Do nothing: the request has no body."""

    # ---- inside

    def _request(self) -> bytes:
        fields = {
            "Host": self._host,
            "User-Agent": "0trust-health-check",
            "Accept": "*/*",
            "Connection": "close",
        }
        given = {name.lower() for name in self._check.headers}
        lines = [f"{name}: {value}" for name, value in fields.items() if name.lower() not in given]
        lines += [f"{name}: {value}" for name, value in self._check.headers.items()]
        return "\r\n".join(
            [f"{self._check.method} {self._check.path} HTTP/1.1", *lines, "", ""]
        ).encode()

    def _end(self, failure: str) -> None:
        report, self._report = self._report, None
        connection, self._connection = self._connection, None
        self._timer.cancel()
        self._pool.withdraw(self)
        if connection is not None:
            connection.detach()
        if report is not None:
            report(failure)
