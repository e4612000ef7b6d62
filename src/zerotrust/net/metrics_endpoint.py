"""HTTP endpoint of the metrics and the health: `GET /metrics` and `GET /healthz`."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from prometheus_client import Metric

from zerotrust.net.http_listener import HttpListener
from zerotrust.net.json_api import Call, JsonApi, Reply
from zerotrust.net.listen import Listening
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry.metrics import MEDIA_TYPE, text

KEY: Final = "metrics.listen_addr"
MAX_CONNECTIONS: Final = 32
"""Concurrent connections. The address may be open to a network."""


Merge = Callable[[bytes], Awaitable[bytes]]
"""Adds the metrics of other processes to those of this one, both in Prometheus' text format."""


class MetricsEndpoint:
    """Serves the metrics and the health of this process, also during an overload.

    Args:
        collect: returns the current metrics.
        health: returns the health in one word.
        merge: adds the metrics of other processes to these; None without any.

    Attributes:
        listener: its HTTP listener.
        listening: the address that it listens on; None if there is none.
    """

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        health: Callable[[], str],
        *,
        coalescer: WriteCoalescer,
        tasks: Tasks,
        merge: Merge | None = None,
    ) -> None:
        self.collect = collect
        self._merge = merge
        self._health = health
        # One call for each connection, so that a client that reads no answers keeps at most one in
        # memory.
        api = JsonApi(
            {("GET", "/metrics"): self._metrics, ("GET", "/healthz"): self._healthz},
            tasks,
            one_call=True,
        )
        self.listener = HttpListener(coalescer, api, tasks, name=KEY, most=lambda: MAX_CONNECTIONS)
        self._address: str | None = None
        self.listening: Listening | None = None

    async def listen(self, address: str | None) -> None:
        """Listen at this address instead of the one before; None is no address.

        Raises:
            SetupError: the address can't be used; nothing has changed.
        """
        if address == self._address:
            return
        previous = self.listening
        self.listening = (
            await self.listener.bind(address, key=KEY, beside=previous)
            if address is not None
            else None
        )
        self._address = address
        if previous is not None:
            await previous.close()

    async def close(self) -> None:
        """Stop listening and close all connections."""
        await self.listen(None)
        self.listener.close()

    def text(self) -> bytes:
        """Return the metrics of this process."""
        return text(self.collect())

    async def _metrics(self, _call: Call) -> Reply:
        found = self.text()
        return Reply(
            found if self._merge is None else await self._merge(found), media_type=MEDIA_TYPE
        )

    async def _healthz(self, _call: Call) -> Reply:
        return Reply({"status": self._health()})
