"""Active health checks: one request, or one connection, to one upstream, and what it says.

A probe takes a connection of its own: what it finds is what a new client would find.
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
"""Takes the result of a probe: why it failed, in a few words; empty where it went well."""


class Probe:
    """One check that is under way (net.http_client.ConnectionSink, ResponseSink); `report` is called once, in any case.

    Args:
        host: the Host that requests to this upstream have.
    """

    def __init__(self, upstream: UpstreamHandle, check: HealthCheck, *, host: str, report: Report) -> None:
        self._check = check
        self._host = host
        self._report: Report | None = report
        self._connection: BackendConnection | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(check.timeout, self._end, f"no answer within {check.timeout:g} s")
        self._pool = upstream.pool
        self._pool.dial(self, probe=True)

    # ---- net.http_client.ConnectionSink

    def connected(self, connection: BackendConnection) -> None:
        """The request follows, unless it is too late."""
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
        """The connection could not be opened."""
        self._end(str(error))

    # ---- net.http_client.ResponseSink

    def response_interim(self, head: ResponseHead) -> None:
        """An answer is still to come."""

    def response(self, head: ResponseHead, framing: tuple[Kind, int]) -> None:
        """The status is all that is asked for: a redirect is an answer, and bodies are not read."""
        expected = is_expected(head.status, self._check.expected_status)
        self._end("" if expected else f"answered {head.status}")

    def body(self, data: bytes, *, end: bool) -> None:
        """Not read."""

    def body_trailers(self, fields: bytes) -> None:
        """Not read."""

    def failed(self, error: ForwardError, *, untouched: bool, unsent: list[Chunk]) -> None:
        """The connection broke."""
        self._connection = None
        self._end(str(error))

    def drained(self) -> None:
        """A request without a body fits."""

    # ---- inside

    def _request(self) -> bytes:
        fields = {"Host": self._host, "User-Agent": "0trust-health-check", "Accept": "*/*", "Connection": "close"}
        given = {name.lower() for name in self._check.headers}
        lines = [f"{name}: {value}" for name, value in fields.items() if name.lower() not in given]
        lines += [f"{name}: {value}" for name, value in self._check.headers.items()]
        return "\r\n".join([f"{self._check.method} {self._check.path} HTTP/1.1", *lines, "", ""]).encode()

    def _end(self, failure: str) -> None:
        report, self._report = self._report, None
        connection, self._connection = self._connection, None
        self._timer.cancel()
        self._pool.withdraw(self)
        if connection is not None:
            connection.detach()
        if report is not None:
            report(failure)
