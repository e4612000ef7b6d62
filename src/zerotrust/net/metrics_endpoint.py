"""Where this process is watched: `GET /metrics` for Prometheus, `GET /healthz` for whoever asks if it is alive."""

from collections.abc import Callable, Iterable
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
"""At the same time: a few that scrape and look at the health. The address may be open to a network."""


class MetricsEndpoint:
    """Listens where it is told to, or nowhere. Not on the way of any request, and never refused for overload.

    Args:
        collect: the metrics as they are now.
        health: a word for how the process is.

    Attributes:
        listener: has its connections.
    """

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        health: Callable[[], str],
        *,
        coalescer: WriteCoalescer,
        tasks: Tasks,
    ) -> None:
        self._collect = collect
        self._health = health
        # One call of each connection: who reads no answers makes us hold one of them.
        api = JsonApi({("GET", "/metrics"): self._metrics, ("GET", "/healthz"): self._healthz}, tasks, one_call=True)
        self.listener = HttpListener(coalescer, api, tasks, name=KEY, most=lambda: MAX_CONNECTIONS)
        self._address: str | None = None
        self._listening: Listening | None = None

    async def listen(self, address: str | None) -> None:
        """Listen at this address and no longer at the one before; None is nowhere.

        Raises:
            SetupError: the address can't be used; all is as before.
        """
        if address == self._address:
            return
        former = self._listening
        self._listening = await self.listener.bind(address, key=KEY, beside=former) if address is not None else None
        self._address = address
        if former is not None:
            await former.close()

    async def close(self) -> None:
        """End it all."""
        await self.listen(None)
        self.listener.close()

    async def _metrics(self, _call: Call) -> Reply:
        return Reply(text(self._collect()), media_type=MEDIA_TYPE)

    async def _healthz(self, _call: Call) -> Reply:
        return Reply({"status": self._health()})
